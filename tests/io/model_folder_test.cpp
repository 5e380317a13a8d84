#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "io/pickled_weights.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::ModelFiles;
using ip2p::testing::error_of;
using ip2p::testing::ScratchDir;
using ip2p::testing::spill;
using ip2p::testing::spill_pickle;

std::string opening_folder(const std::filesystem::path& path, const ip2p::ModelFilesOptions& options = {}) {
  return error_of([&] { static_cast<void>(ModelFiles::open(path, options)); });
}

/// A folder whose UNet has one tensor, `value`, in each of the named files.
void add_unet(const std::filesystem::path& model, std::initializer_list<std::pair<const char*, double>> files) {
  spill(model / "unet" / "config.json", R"({"_class_name":"UNet2DConditionModel","in_channels":8})");
  for (const auto& [name, value] : files) ip2p::write_safetensors(model / "unet" / name, {{"w", at::full({2}, value)}});
}

double first_weight(const ModelFiles& files) { return files.weights("unet").at("w").read()[0].item<double>(); }

}  // namespace

TEST_CASE("ModelFiles: variants of a folder are chosen by name; if there is only one, it is taken", "[io]") {
  const ScratchDir scratch;
  const auto both = scratch / "both";
  add_unet(both, {{"diffusion_pytorch_model.safetensors", 1}, {"diffusion_pytorch_model.fp16.safetensors", 2}});
  CHECK(first_weight(ModelFiles::open(both)) == 1);
  CHECK(first_weight(ModelFiles::open(both, {.variant = "fp16"})) == 2);
  CHECK_THAT(ModelFiles::open(both, {.variant = "fp16"}).describe(),
             Contains("8 input channels (InstructPix2Pix)") && Contains("diffusion_pytorch_model.fp16.safetensors"));
  CHECK_THAT(opening_folder(both, {.variant = "bf16"}), Contains("no bf16 weights") &&
                                                            Contains("'diffusion_pytorch_model.bf16.safetensors'") &&
                                                            Contains("found 'config.json'"));
  add_unet(scratch / "one", {{"diffusion_pytorch_model.fp16.safetensors", 3}});
  CHECK(first_weight(ModelFiles::open(scratch / "one")) == 3);
  add_unet(scratch / "two",
           {{"diffusion_pytorch_model.fp16.safetensors", 3}, {"diffusion_pytorch_model.ema.safetensors", 4}});
  CHECK_THAT(opening_folder(scratch / "two"),
             Contains("variants 'ema', 'fp16'") && Contains("set 'variant' to choose one"));
}

TEST_CASE("ModelFiles: sharded weights are gathered; shards that are missing or elsewhere are refused", "[io]") {
  const ScratchDir scratch;
  const auto unet = scratch / "m" / "unet";
  const std::string index = "diffusion_pytorch_model.safetensors.index.json";
  add_unet(scratch / "m", {});
  ip2p::write_safetensors(unet / "a-00001-of-00002.safetensors", {{"w", at::full({2}, 5)}});
  ip2p::write_safetensors(unet / "a-00002-of-00002.safetensors", {{"v", at::full({3}, 6)}});
  const auto write_index = [&](const std::string& v_shard) {
    spill(unet / index, R"({"metadata":{"total_size":20},"weight_map":{"w":"a-00001-of-00002.safetensors","v":)" +
                            nlohmann::json(v_shard).dump() + "}}");
  };
  write_index("a-00002-of-00002.safetensors");
  CHECK(first_weight(ModelFiles::open(scratch / "m")) == 5);
  CHECK(ModelFiles::open(scratch / "m").weights("unet").at("v").read().numel() == 3);
  write_index("a-00003-of-00003.safetensors");
  CHECK_THAT(opening_folder(scratch / "m"), Contains("1 of 2 shards are missing: 'a-00003-of-00003.safetensors'"));
  write_index("a-00001-of-00002.safetensors");
  CHECK_THAT(opening_folder(scratch / "m"), Contains("has no tensor 'v'"));
  ip2p::write_safetensors(scratch / "m" / "secret.safetensors", {{"v", at::ones({1})}});
  for (const auto& shard : {(scratch / "m" / "secret.safetensors").string(), std::string("../secret.safetensors"),
                            std::string("x/../../secret.safetensors"), std::string("..\\secret.safetensors"),
                            std::string(), std::string("a\0.safetensors", 14)}) {
    write_index(shard);
    CHECK_THAT(opening_folder(scratch / "m"), Contains("refuses the shard") && Contains("same folder"));
  }
  for (const char* bad : {"{}", R"({"weight_map":[]})", R"({"weight_map":{}})"}) {
    spill(unet / index, bad);
    CHECK_THAT(opening_folder(scratch / "m"), Contains("non-empty object 'weight_map'"));
  }
  spill(unet / index, R"({"weight_map":{"w":7}})");
  CHECK_THAT(opening_folder(scratch / "m"), Contains("shard of tensor 'w' must be a string"));
}

TEST_CASE("ModelFiles: names of older writers load", "[io]") {
  const ScratchDir scratch;
  const auto model = scratch / "m";
  spill(model / "vae" / "config.json", R"({"_class_name":"AutoencoderKL"})");
  const auto square = at::arange(4, at::kFloat).reshape({2, 2});
  std::map<std::string, at::Tensor> vae;
  for (const std::string side : {"encoder", "decoder"}) {
    const auto prefix = side + ".mid_block.attentions.0.";
    vae[prefix + "group_norm.weight"] = at::ones({2});
    vae[prefix + "query.weight"] = square;
    vae[prefix + "key.weight"] = square.add(1);
    vae[prefix + "value.weight"] = square.add(2).reshape({2, 2, 1, 1});
    vae[prefix + "proj_attn.weight"] = square.add(3);
    vae[prefix + "proj_attn.bias"] = at::ones({2});
  }
  vae["quant_conv.weight"] = at::ones({8, 8, 1, 1});
  ip2p::write_safetensors(model / "vae" / "diffusion_pytorch_model.safetensors", vae);
  spill(model / "text_encoder" / "config.json", R"({"architectures":["CLIPTextModel"],"hidden_size":4})");
  ip2p::write_safetensors(model / "text_encoder" / "model.safetensors",
                          {{"embeddings.position_ids", at::arange(77).reshape({1, 77})},
                           {"embeddings.token_embedding.weight", at::ones({3, 4})},
                           {"encoder.layers.0.layer_norm1.bias", at::ones({4})},
                           {"text_model.final_layer_norm.bias", at::ones({4})}});
  const auto files = ModelFiles::open(model);
  const auto read = files.weights("vae");
  for (const std::string side : {"encoder", "decoder"}) {
    const auto prefix = side + ".mid_block.attentions.0.";
    CHECK(read.contains(prefix + "group_norm.weight"));
    CHECK(at::equal(read.at(prefix + "to_q.weight").read(), square));
    CHECK(at::equal(read.at(prefix + "to_k.weight").read(), square.add(1)));
    CHECK(at::equal(read.at(prefix + "to_v.weight").read(), square.add(2)));
    CHECK(at::equal(read.at(prefix + "to_out.0.weight").read(), square.add(3)));
    CHECK(read.contains(prefix + "to_out.0.bias"));
  }
  CHECK(read.at("quant_conv.weight").shape == std::vector<std::int64_t>{8, 8, 1, 1});
  const auto text = files.weights("text_encoder");
  CHECK(text.size() == 3);
  CHECK(text.contains("text_model.embeddings.token_embedding.weight"));
  CHECK(text.contains("text_model.encoder.layers.0.layer_norm1.bias"));
  CHECK(text.contains("text_model.final_layer_norm.bias"));
}

TEST_CASE("ModelFiles reads the pickles of a folder where it has no safetensors, whole or in shards", "[io]") {
  const ScratchDir scratch;
  const auto add = [&](const std::string& model, const std::string& name, double value) {
    add_unet(scratch / model, {});
    spill_pickle(scratch / model / "unet" / name, {{"w", at::full({2}, value)}});
  };
  const auto weight = [&](const std::string& model, const std::string& variant = {}) {
    return first_weight(ModelFiles::open(scratch / model, {.variant = variant}));
  };
  add("plain", "diffusion_pytorch_model.bin", 1);
  CHECK(weight("plain") == 1);
  add("plain", "diffusion_pytorch_model.fp16.bin", 2);
  CHECK(weight("plain") == 1);
  CHECK(weight("plain", "fp16") == 2);
  add_unet(scratch / "plain", {{"diffusion_pytorch_model.fp16.safetensors", 3}});
  CHECK(weight("plain") == 1);
  CHECK(weight("plain", "fp16") == 3);
  add_unet(scratch / "plain", {{"diffusion_pytorch_model.safetensors", 4}});
  CHECK(weight("plain") == 4);
  add("one", "diffusion_pytorch_model.non_ema.bin", 5);
  CHECK(weight("one") == 5);
  add("text", "pytorch_model.bin", 6);
  CHECK(weight("text") == 6);
  add("shards", "diffusion_pytorch_model-00001-of-00002.bin", 7);
  const auto unet = scratch / "shards" / "unet";
  spill_pickle(unet / "diffusion_pytorch_model-00002-of-00002.bin", {{"v", at::full({3}, 8)}});
  const std::string index =
      R"({"weight_map":{"w":"diffusion_pytorch_model-00001-of-00002.bin","NAME":"diffusion_pytorch_model-00002-of-00002.bin"}})";
  spill(unet / "diffusion_pytorch_model.bin.index.json", std::string(index).replace(index.find("NAME"), 4, "v"));
  CHECK(weight("shards") == 7);
  CHECK(ModelFiles::open(scratch / "shards").weights("unet").at("v").read().numel() == 3);
  spill(unet / "diffusion_pytorch_model.bin.index.json", std::string(index).replace(index.find("NAME"), 4, "u"));
  CHECK_THAT(opening_folder(scratch / "shards"), Contains("has no tensor 'u'; nearest: 'v'"));
}

TEST_CASE("ModelFiles reads TAESD's two files as pickles as well", "[io]") {
  const ScratchDir scratch;
  const auto folder = scratch / "taesd";
  spill_pickle(folder / "taesd_encoder.pth",
               {{"0.weight", at::ones({8, 3, 3, 3})}, {"1.weight", at::ones({4, 8, 3, 3})}});
  spill_pickle(folder / "taesd_decoder.pth",
               {{"1.weight", at::ones({8, 4, 3, 3})}, {"2.weight", at::ones({3, 8, 3, 3})}});
  const auto files = ModelFiles::open(folder);
  CHECK(files.weights("vae").size() == 4);
  CHECK(files.weights("vae").at("decoder.layers.0.weight").shape == std::vector<std::int64_t>{8, 4, 3, 3});
  CHECK(files.config("vae")["latent_channels"] == 4);
  CHECK_THAT(files.describe(), Contains("taesd_encoder.pth and taesd_decoder.pth"));
}

TEST_CASE("ModelFiles opens the folder of one component, and reports folders it cannot read", "[io]") {
  const ScratchDir scratch;
  add_unet(scratch / "m", {{"diffusion_pytorch_model.safetensors", 7}});
  CHECK(first_weight(ModelFiles::open(scratch / "m" / "unet")) == 7);

  CHECK_THAT(opening_folder(scratch.path()),
             Contains("cannot tell what model this is") && Contains("'unet', 'vae'") && Contains("found 'm'"));
  spill(scratch / "other" / "unet" / "config.json", "{}");
  spill(scratch / "other" / "unet" / "flax_model.msgpack", "x");
  CHECK_THAT(opening_folder(scratch / "other"), Contains("expected 'diffusion_pytorch_model.safetensors'") &&
                                                    Contains("'pytorch_model.bin'") &&
                                                    Contains("found 'config.json', 'flax_model.msgpack'"));
  ip2p::write_safetensors(scratch / "m" / "loose.safetensors", {{"w", at::ones({1})}});
  std::filesystem::remove_all(scratch / "m" / "unet");
  CHECK_THAT(opening_folder(scratch / "m"), Contains("to open 'loose.safetensors', give the path of the file itself"));
  spill_pickle(scratch / "c" / "loose.ckpt", {{"w", at::ones({1})}});
  CHECK_THAT(opening_folder(scratch / "c"), Contains("to open 'loose.ckpt', give the path of the file itself"));
  std::filesystem::create_directories(scratch / "bare" / "unet");
  CHECK_THAT(opening_folder(scratch / "bare"), Contains("expected a config.json, found nothing"));

  const auto config = scratch / "bad" / "config.json";
  for (const auto& [text, words] : {std::pair<const char*, const char*>{"", "not valid JSON"},
                                    {"{", "not valid JSON"},
                                    {"[]", "expected a JSON object"},
                                    {"<!DOCTYPE html>", "HTML page"},
                                    {"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"},
                                    {R"({"_class_name":"SD3Transformer2DModel"})", "'SD3Transformer2DModel'"},
                                    {R"({"_class_name":7})", "_class_name ''"}}) {
    spill(config, text);
    CHECK_THAT(opening_folder(scratch / "bad"), Contains(words) && Contains("bad"));
  }
}
