#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/vision/clip.hpp"
#include "vision/golden_clip.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const ModelFilesOptions with_tokenizer{.tokenizer = fixture("pipeline/fixtures/tiny-ip2p/tokenizer")};

ModelFiles tiny_files(ModelFilesOptions options = with_tokenizer) {
  return ModelFiles::open(fixture("vision/fixtures/tiny-clip"), options);
}

}  // namespace

TEST_CASE("The folder of a CLIP also serves as the text encoder of Stable Diffusion", "[vision]") {
  const at::NoGradGuard no_grad;
  const auto files = tiny_files();
  CHECK(files.has("clip"));
  const auto clip = load<ClipModel>(files);
  const auto text = load<ClipTextModel>(files);
  const auto ids = golden_clip().tensor("input_ids");
  CHECK(at::equal(text(ids), clip.module().text(ids)));
  CHECK_THAT(files.describe(), Contains("folder of a CLIP") && Contains("clip: CLIPModel"));
}

TEST_CASE("ClipConfig: what a file leaves out takes transformers' values, and older sections are read", "[vision]") {
  const auto config = ClipConfig::from_json({{"model_type", "clip"}}, "config.json");
  CHECK(config.text.hidden_size == 512);
  CHECK(config.vision.patch_size == 32);
  CHECK(config.projection_dim == 512);
  CHECK(config.eos_token_id == 49407);
  const auto older = ClipConfig::from_json(
      {{"text_config_dict", {{"hidden_size", 768}, {"num_attention_heads", 12}}}, {"vision_config_dict", nullptr}},
      "config.json");
  CHECK(older.text.hidden_size == 768);
  const auto again = ClipConfig::from_json(ClipConfig{}.to_json(), "config.json");
  CHECK(again.to_json() == ClipConfig{}.to_json());
  CHECK(again.vision.tokens() == 257);
}

TEST_CASE("ClipConfig refuses what it cannot build, naming the tower", "[vision]") {
  const auto refused = [](nlohmann::json patch) {
    return error_of([&] {
      auto json = ClipConfig{}.to_json();
      json.merge_patch(patch);
      static_cast<void>(ClipConfig::from_json(json, "config.json"));
    });
  };
  CHECK_THAT(refused({{"vision_config", {{"patch_size", 15}}}}),
             Contains("vision_config: image_size: expected a multiple of patch_size 15, found 224"));
  CHECK_THAT(refused({{"vision_config", {{"num_attention_heads", 7}}}}),
             Contains("hidden_size 1024 to be a multiple of num_attention_heads 7"));
  CHECK_THAT(refused({{"vision_config", {{"hidden_act", "relu"}}}}),
             Contains("vision_config: hidden_act: expected quick_gelu or gelu, found relu"));
  CHECK_THAT(refused({{"text_config", {{"layer_norm_eps", 1e-6}}}}),
             Contains("text_config: layer_norm_eps: expected 1e-5, found 1e-06"));
  CHECK_THAT(refused({{"projection_dim", 0}}), Contains("projection_dim: expected a positive width, found 0"));
  CHECK_THAT(refused({{"vision_config", {{"hidden_size", "wide"}}}}),
             Contains("config.json, vision_config: hidden_size: expected a whole number, found \"wide\""));
  CHECK_THAT(refused({{"text_config", {{"num_hidden_layers", -1}}}}),
             Contains("config.json, text_config: num_hidden_layers: expected at least 1, found -1"));
}

TEST_CASE("ClipModel refuses shapes and texts that it cannot process", "[vision]") {
  const auto model = load<ClipModel>(tiny_files());
  CHECK_THROWS_WITH(model.project_images(at::zeros({1, 3, 32, 40})),
                    Contains("pixels: expected [B, 3, 32, 32], found [1, 3, 32, 40]"));
  CHECK_THROWS_WITH(model.project_texts(at::zeros({1, 77}, at::kLong)),
                    Contains("expected the end token 1513 in every text, found one without"));
}

TEST_CASE("Weights of another CLIP are refused, listing missing, unexpected and mis-shaped tensors", "[vision]") {
  auto options = with_tokenizer;
  options.overrides = {{"clip", {{"vision_config", {{"num_hidden_layers", 3}}}, {"projection_dim", 20}}}};
  CHECK_THAT(error_of([&] { static_cast<void>(load<ClipModel>(tiny_files(options))); }),
             Contains("tiny-clip (clip): the weights do not fit this architecture: 16 tensors missing, 0 unexpected, "
                      "2 of another shape") &&
                 Contains("visual_projection.weight: expected [20, 32], found [24, 32]") &&
                 Contains("missing: vision_model.encoder.layers.2."));
  options.overrides = {{"clip", {{"vision_config", {{"num_hidden_layers", 1}}}}}};
  CHECK_THAT(error_of([&] { static_cast<void>(load<ClipModel>(tiny_files(options))); }),
             Contains("0 tensors missing, 16 unexpected") && Contains("unexpected: vision_model.encoder.layers.1."));
}

TEST_CASE("The error about a CLIP without a tokenizer says where one was looked for", "[vision]") {
  CHECK_THAT(error_of([] { static_cast<void>(load<Clip>(tiny_files({}))); }), Contains("no tokenizer"));
}

TEST_CASE("A trained CLIP is saved as a folder that opens again, bit for bit", "[vision]") {
  const ScratchDir scratch;
  const auto files = tiny_files();
  const auto clip = load<ClipModel>(files, {.inference = false});
  save_component(clip, scratch.path(), at::kFloat);
  for (const char* name : {"vocab.json", "merges.txt"}) {
    std::filesystem::copy_file(with_tokenizer.tokenizer / name, scratch / "clip" / name);
  }
  const auto opened = ModelFiles::open(scratch / "clip");
  const auto again = load<Clip>(opened);  // the tokenizer is beside config.json
  const auto before = state_of(clip.module()), after = state_of(again.model().module());
  REQUIRE(before.size() == after.size());
  for (const auto& [name, tensor] : before) CHECK(at::equal(tensor, after.at(name)));
  CHECK(again.model().config().to_json() == clip.config().to_json());
}

TEST_CASE("OpenCLIP: without a configuration, heads are the published ones; damaged shapes are named", "[vision]") {
  const ScratchDir scratch;
  const auto source = SafetensorsFile::open(fixture("vision/fixtures/open-clip/open_clip_model.safetensors"));
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : source.tensors()) tensors.emplace(name, source.tensor(name));
  write_safetensors(scratch / "a.safetensors", tensors);
  const auto config = ClipConfig::from_json(ModelFiles::open(scratch / "a.safetensors").config("clip"), "a");
  CHECK(config.vision.num_attention_heads == 1);  // 24 / 64
  CHECK(config.text.hidden_act == "gelu");
  CHECK(config.eos_token_id == 2);

  const auto refused = [&](const char* described, const std::string& words) {
    std::ofstream(scratch / "open_clip_config.json") << described;
    CHECK_THAT(error_of([&] { static_cast<void>(ModelFiles::open(scratch / "a.safetensors")); }), Contains(words));
    std::filesystem::remove(scratch / "open_clip_config.json");
  };
  refused(R"({"model_cfg": {"vision_cfg": {"head_width": 0}}})", "head_width: expected at least 1, found 0");
  refused(R"({"model_cfg": {"vision_cfg": {"head_width": 1e300}}})",
          "head_width: expected a whole number, found 1e+300");
  refused(R"({"model_cfg": {"vision_cfg": 7}})", "vision_cfg: expected an object, found 7");
  refused(R"({"model_cfg": {"quick_gelu": "yes"}})", "quick_gelu: expected true or false, found \"yes\"");
  refused("[]", "expected a JSON object, found array");

  tensors["visual.positional_embedding"] = tensors["visual.positional_embedding"].narrow(0, 0, 9).clone();
  write_safetensors(scratch / "b.safetensors", tensors);
  CHECK_THAT(error_of([&] { static_cast<void>(ModelFiles::open(scratch / "b.safetensors")); }),
             Contains("expected a square number of rows plus one, found 9"));
  tensors.erase("text_projection");
  write_safetensors(scratch / "c.safetensors", tensors);
  CHECK_THAT(error_of([&] { static_cast<void>(ModelFiles::open(scratch / "c.safetensors")); }),
             Contains("lacks the tensor 'text_projection'"));
}

TEST_CASE("A CLIP's weights without config.json are recognised and explained", "[vision]") {
  CHECK_THAT(
      error_of([] { static_cast<void>(ModelFiles::open(fixture("vision/fixtures/tiny-clip/model.safetensors"))); }),
      Contains("that of a CLIP in transformers' layout, which needs the config.json beside it"));
}
