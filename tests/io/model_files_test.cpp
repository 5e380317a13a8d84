#include "ip2p/io/model_files.hpp"
#include "ip2p/io/taesd_files.hpp"
#include "ip2p/io/write_safetensors.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "io/ldm_table.hpp"
#include "io/pickled_weights.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::ModelFiles;
using ip2p::testing::error_of;
using ip2p::testing::fixture;
using ip2p::testing::ldm_table;
using ip2p::testing::LdmRow;
using ip2p::testing::ScratchDir;
using ip2p::testing::spill;
using ip2p::testing::spill_pickle;
using ip2p::testing::target_shape;
using Shape = std::vector<std::int64_t>;
using Tensors = std::map<std::string, at::Tensor>;

/// An fp16 file with these names and shapes whose data is a hole: full-size models without their gigabytes.
void write_sparse(const std::filesystem::path& path, const std::map<std::string, Shape>& tensors) {
  std::string header = "{";
  std::uint64_t position = 0;
  for (const auto& [name, shape] : tensors) {
    std::uint64_t bytes = 2;
    for (const auto size : shape) bytes *= static_cast<std::uint64_t>(size);
    header += fmt::format(R"({}"{}":{{"dtype":"F16","shape":[{}],"data_offsets":[{},{}]}})", position > 0 ? "," : "",
                          name, fmt::join(shape, ","), position, position + bytes);
    position += bytes;
  }
  spill(path, ip2p::testing::crafted(header + "}"));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + position);
}

/// Different values in every tensor and element.
at::Tensor numbered(const Shape& shape, std::int64_t seed) {
  std::int64_t elements = 1;
  for (const auto size : shape) elements *= size;
  return at::arange(seed, seed + elements, at::kFloat).reshape(shape);
}

Tensors ldm_tensors(const std::map<std::string, std::vector<LdmRow>>& table) {
  Tensors tensors;
  std::int64_t seed = 0;
  for (const auto& [part, rows] : table) {
    for (const auto& row : rows) {
      if (!tensors.contains(row.source)) tensors[row.source] = numbered(row.shape, seed += 7);
    }
  }
  return tensors;
}

/// What the table's operation makes of the checkpoint's tensor.
at::Tensor expected_value(const LdmRow& row, const Tensors& tensors) {
  const auto value = tensors.at(row.source);
  if (row.operation == "matrix") return value.flatten(1);
  if (row.operation.starts_with("rows:")) return value.narrow(0, std::stoll(row.operation.substr(5)), row.shape[0] / 3);
  return value;
}

void write_ldm(const std::filesystem::path& path, const Tensors& tensors, const std::string& prediction = {}) {
  std::map<std::string, std::string> metadata;
  if (!prediction.empty()) metadata["modelspec.prediction_type"] = prediction;
  ip2p::write_safetensors(path, tensors, metadata);
}

std::string opening(const std::filesystem::path& path, const ip2p::ModelFilesOptions& options = {}) {
  return error_of([&] { static_cast<void>(ModelFiles::open(path, options)); });
}

}  // namespace

TEST_CASE("ModelFiles maps every tensor of a full-size single file as diffusers does", "[io]") {
  const std::string model = GENERATE("sd15", "sd21");
  const std::int64_t in_channels = GENERATE(4, 8, 9);
  const auto table = ldm_table(model);
  REQUIRE(table.at("unet").size() == 686);
  REQUIRE(table.at("vae").size() == 248);
  std::map<std::string, Shape> stored;
  for (const auto& [part, rows] : table) {
    for (const auto& row : rows) stored[row.source] = row.shape;
  }
  stored["model.diffusion_model.input_blocks.0.0.weight"][1] = in_channels;
  stored["betas"] = stored["alphas_cumprod"] = {1000};
  const ScratchDir scratch;
  write_sparse(scratch / "model.safetensors", stored);

  const auto files = ModelFiles::open(scratch / "model.safetensors");
  auto reference = ip2p::testing::ldm_reference_config(model);
  reference["unet"]["in_channels"] = in_channels;
  for (const std::string component : {"unet", "vae", "text_encoder"}) {
    INFO(component);
    const auto weights = files.weights(component);
    CHECK(weights.size() == table.at(component).size());
    for (const auto& row : table.at(component)) {
      INFO(row.source << " -> " << row.target);
      REQUIRE(weights.contains(row.target));
      auto shape = target_shape(row);
      if (row.target == "conv_in.weight") shape[1] = in_channels;
      CHECK(weights.at(row.target).shape == shape);
      CHECK(weights.at(row.target).dtype == at::kHalf);
    }
    const auto config = files.config(component);
    for (const auto& [key, value] : reference[component].items()) {
      INFO(key);
      REQUIRE(config.contains(key));
      CHECK(config[key] == value);
    }
  }
  CHECK(files.config("scheduler")["num_train_timesteps"] == 1000);
  // The two models of Stable Diffusion 2 that draw from text have the same tensors.
  const bool either = model == "sd21" && in_channels == 4;
  CHECK(files.config("scheduler")["prediction_type"] == (either ? "undetermined" : "epsilon"));
  CHECK_THAT(files.describe(), Contains(fmt::format("{} input channels", in_channels)) && Contains("F16") &&
                                   Contains("no EMA") &&
                                   Contains(either ? "prediction type unknown" : "prediction type assumed"));
}

TEST_CASE("ModelFiles reads the same values from a single file as from a diffusers folder", "[io]") {
  const std::string model = GENERATE("tiny_clip", "tiny_open_clip");
  const auto table = ldm_table(model);
  auto tensors = ldm_tensors(table);
  if (model == "tiny_clip") {
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = at::arange(9).reshape({1, 9});
  }
  const ScratchDir scratch;
  write_ldm(scratch / "single.safetensors", tensors);
  const auto config = ip2p::testing::ldm_reference_config(model);
  for (const std::string component : {"unet", "vae", "text_encoder"}) {
    Tensors stored;
    for (const auto& row : table.at(component)) stored[row.target] = expected_value(row, tensors);
    const auto folder = scratch / "folder" / component;
    spill(folder / "config.json", config[component].dump());
    const bool text = component == "text_encoder";
    ip2p::write_safetensors(folder / (text ? "model.safetensors" : "diffusion_pytorch_model.safetensors"), stored);
  }
  const auto single = ModelFiles::open(scratch / "single.safetensors");
  const auto folder = ModelFiles::open(scratch / "folder");
  for (const std::string component : {"unet", "vae", "text_encoder"}) {
    const auto ours = single.weights(component);
    const auto theirs = folder.weights(component);
    REQUIRE(ours.size() == theirs.size());
    for (const auto& [name, entry] : theirs) {
      INFO(name);
      REQUIRE(ours.contains(name));
      const auto value = ours.at(name).read();
      CHECK(value.sizes() == at::IntArrayRef(ours.at(name).shape));
      CHECK(at::equal(value, entry.read()));
    }
  }
}

TEST_CASE("ModelFiles takes the EMA of a single file unless told otherwise, and says so", "[io]") {
  const auto table = ldm_table("tiny_clip");
  auto tensors = ldm_tensors(table);
  for (const auto& row : table.at("unet")) {
    auto name = row.source.substr(std::string("model.").size());
    std::erase(name, '.');
    tensors["model_ema." + name] = tensors.at(row.source).add(1);
  }
  tensors["model_ema.decay"] = at::ones({});
  tensors["model_ema.num_updates"] = at::ones({}, at::kInt);
  const ScratchDir scratch;
  write_ldm(scratch / "ema.safetensors", tensors);
  for (const bool prefer : {true, false}) {
    const auto files = ModelFiles::open(scratch / "ema.safetensors", {.prefer_ema = prefer});
    const auto weights = files.weights("unet");
    CHECK(weights.size() == table.at("unet").size());
    for (const auto& row : table.at("unet")) {
      CHECK(at::equal(weights.at(row.target).read(), tensors.at(row.source).add(prefer ? 1 : 0)));
    }
    CHECK_THAT(files.describe(), Contains(prefer ? "the EMA weights" : "the non-EMA weights, as asked for"));
  }
  // An incomplete average does not count.
  tensors.erase("model_ema.diffusion_modeltime_embed0weight");
  write_ldm(scratch / "half.safetensors", tensors);
  CHECK_THAT(opening(scratch / "half.safetensors"), Contains("EMA covers 207 of 208") &&
                                                        Contains("time_embed.0.weight") &&
                                                        Contains("set 'prefer_ema = false'"));
  CHECK(opening(scratch / "half.safetensors", {.prefer_ema = false}) == "no error");
}

TEST_CASE("A checkpoint is the same model as safetensors and as a pickle, whatever its name", "[io]") {
  const auto table = ldm_table("tiny_clip");
  auto tensors = ldm_tensors(table);
  for (const auto& row : table.at("unet")) {
    auto name = row.source.substr(std::string("model.").size());
    std::erase(name, '.');
    tensors["model_ema." + name] = tensors.at(row.source).add(1);
  }
  const ScratchDir scratch;
  write_ldm(scratch / "model.safetensors", tensors);
  write_ldm(scratch / "renamed.ckpt", tensors);
  spill_pickle(scratch / "model.ckpt", tensors);
  spill_pickle(scratch / "old.ckpt", tensors, ip2p::testing::PickleLayout::legacy);
  spill_pickle(scratch / "renamed.safetensors", tensors);
  const bool prefer = GENERATE(true, false);
  const auto access = GENERATE(ip2p::WeightAccess::copied, ip2p::WeightAccess::mapped);
  const ip2p::ModelFilesOptions options{.prefer_ema = prefer, .weights = {.access = access}};
  const auto expected = ModelFiles::open(scratch / "model.safetensors", options);
  for (const char* name : {"renamed.ckpt", "model.ckpt", "old.ckpt", "renamed.safetensors"}) {
    INFO(name);
    const auto files = ModelFiles::open(scratch / name, options);
    for (const char* component : {"unet", "vae", "text_encoder"}) {
      CHECK(files.config(component) == expected.config(component));
      const auto weights = files.weights(component), wanted = expected.weights(component);
      REQUIRE(weights.size() == wanted.size());
      for (const auto& [key, entry] : wanted) CHECK(at::equal(weights.at(key).read(), entry.read()));
    }
    CHECK_THAT(files.describe(), Contains(prefer ? "the EMA weights" : "the non-EMA weights, as asked for"));
  }
}

TEST_CASE("ModelFiles opens checkpoints without a text_model prefix, and parts of checkpoints", "[io]") {
  const auto table = ldm_table("tiny_clip");
  const auto tensors = ldm_tensors(table);
  const ScratchDir scratch;
  Tensors bare, vae, unet;
  for (const auto& [name, value] : tensors) {
    auto shorter = name;
    if (const auto start = shorter.find("text_model."); start != std::string::npos) shorter.erase(start, 11);
    bare[shorter] = value;
    if (name.starts_with("first_stage_model.")) vae[name.substr(18)] = value;
    if (name.starts_with("model.diffusion_model.")) unet[name.substr(22)] = value;
  }
  vae["loss.logvar"] = at::zeros({});
  write_ldm(scratch / "bare.safetensors", bare);
  const auto text = ModelFiles::open(scratch / "bare.safetensors").weights("text_encoder");
  CHECK(text.size() == table.at("text_encoder").size());
  for (const auto& row : table.at("text_encoder")) CHECK(text.contains(row.target));

  write_ldm(scratch / "vae.safetensors", vae);
  const auto part = ModelFiles::open(scratch / "vae.safetensors");
  CHECK(part.weights("vae").size() == table.at("vae").size());
  CHECK(part.config("vae")["block_out_channels"] == std::vector<int>{32, 64});
  CHECK_FALSE(part.has("unet"));
  CHECK_THAT(error_of([&] { static_cast<void>(part.weights("unet")); }),
             Contains("no component 'unet'") && Contains("'vae'"));
  write_ldm(scratch / "unet.safetensors", unet);
  CHECK(ModelFiles::open(scratch / "unet.safetensors").weights("unet").size() == table.at("unet").size());
}

TEST_CASE("ModelFiles takes the autoencoder of another model: a checkpoint, its part, or a folder", "[io]") {
  const auto table = ldm_table("tiny_clip");
  auto tensors = ldm_tensors(table);
  const ScratchDir scratch;
  write_ldm(scratch / "model.safetensors", tensors);
  Tensors other, bare, unet;
  for (auto& [name, value] : tensors) {
    if (name.starts_with("model.diffusion_model.")) unet[name.substr(22)] = value;
    if (!name.starts_with("first_stage_model.")) continue;
    other[name] = bare[name.substr(18)] = value + 1000.0;
  }
  write_ldm(scratch / "checkpoint.safetensors", other);
  write_ldm(scratch / "bare.safetensors", bare);
  write_ldm(scratch / "unet.safetensors", unet);
  const auto of_folder = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p");

  const auto plain = ModelFiles::open(scratch / "model.safetensors");
  CHECK(plain.where("vae") == (scratch / "model.safetensors").string() + " (vae)");
  for (const char* name : {"checkpoint.safetensors", "bare.safetensors"}) {
    INFO(name);
    const auto vae = scratch / name;
    const auto files = ModelFiles::open(scratch / "model.safetensors", {.vae = vae});
    CHECK(files.where("vae") == (scratch / "model.safetensors").string() + " (vae of " + vae.string() + ")");
    CHECK(files.where("unet") == (scratch / "model.safetensors").string() + " (unet)");
    CHECK_THAT(files.describe(), Contains("from " + vae.string()));
    REQUIRE(files.weights("vae").size() == table.at("vae").size());
    for (const auto& [tensor, entry] : files.weights("vae")) {
      CHECK(at::equal(entry.read(), plain.weights("vae").at(tensor).read() + 1000.0));
    }
    for (const auto& [tensor, entry] : files.weights("unet")) {
      CHECK(at::equal(entry.read(), plain.weights("unet").at(tensor).read()));
    }
  }
  // A model's folder and a component's; a model without its own autoencoder; overrides apply afterwards.
  for (const auto& vae : {of_folder, of_folder / "vae"}) {
    const auto files =
        ModelFiles::open(scratch / "unet.safetensors", {.vae = vae, .overrides = {{"vae", {{"scaling_factor", 0.5}}}}});
    CHECK(files.weights("vae").size() == ModelFiles::open(of_folder).weights("vae").size());
    CHECK(files.config("vae")["scaling_factor"] == 0.5);
    CHECK(files.has("unet"));
  }

  const auto error = [&](const std::filesystem::path& vae) {
    return opening(scratch / "model.safetensors", {.vae = vae});
  };
  CHECK_THAT(error(scratch / "no"), Contains("model.safetensors: expected an autoencoder in its place from '") &&
                                        Contains("there is no such file or folder"));
  CHECK_THAT(error(scratch / "unet.safetensors"),
             Contains("model.safetensors: expected") && Contains("unet.safetensors: has no component 'vae'"));
  CHECK_THAT(error(of_folder / "unet"), Contains("has no component 'vae'"));
  auto narrow = bare;
  narrow["decoder.conv_in.weight"] = narrow["decoder.conv_in.weight"].narrow(1, 0, 3).clone();
  write_ldm(scratch / "narrow.safetensors", narrow);
  CHECK_THAT(error(scratch / "narrow.safetensors"),
             Contains("expected an autoencoder with 4 latent channels in its place, found 3 in"));
}

TEST_CASE("ModelFiles: what shapes cannot tell comes from metadata, options or overrides", "[io]") {
  const auto tensors = ldm_tensors(ldm_table("tiny_open_clip"));
  const ScratchDir scratch;
  const auto path = scratch / "x.safetensors";
  write_ldm(path, tensors, "v");
  CHECK(ModelFiles::open(path).config("scheduler")["prediction_type"] == "v_prediction");
  CHECK(ModelFiles::open(path, {.prediction_type = "epsilon"}).config("scheduler")["prediction_type"] == "epsilon");
  CHECK_THAT(opening(path, {.prediction_type = "velocity"}), Contains("prediction_type") && Contains("velocity"));
  const ip2p::ModelFilesOptions options{.overrides = {{"unet", {{"attention_head_dim", 4}}}}};
  CHECK(ModelFiles::open(path, options).config("unet")["attention_head_dim"] == 4);
  CHECK_THAT(opening(path, {.overrides = {{"unett", {{"a", 4}}}}}), Contains("no component 'unett'"));
  CHECK_THAT(opening(path, {.overrides = {{"unet", 4}}}), Contains("overrides") && Contains("'unet'"));
}

TEST_CASE("ModelFiles: the error for a file that is no model says which tensors decided this", "[io]") {
  const ScratchDir scratch;
  const auto message = [&](const Tensors& tensors) {
    write_ldm(scratch / "x.safetensors", tensors);
    return opening(scratch / "x.safetensors");
  };
  const auto one = at::ones({1});
  CHECK_THAT(message({{"weight", one}}),
             Contains("cannot tell what model this is") && Contains("among its 1 tensors") &&
                 Contains("'model.diffusion_model.input_blocks.0.0.weight' (UNet") && Contains("autoencoder") &&
                 Contains("cond_stage_model.model.token_embedding.weight") && Contains("found 'weight'"));
  CHECK_THAT(message({{"model.diffusion_model.input_block.0.0.weight", one}}),
             Contains("nearest: 'model.diffusion_model.input_block.0.0.weight'"));
  CHECK_THAT(message({}), Contains("among its 0 tensors") && Contains("found nothing"));
  CHECK_THAT(message({{"conditioner.embedders.0.transformer.x", one}}), Contains("Stable Diffusion XL"));
  CHECK_THAT(message({{"lora_unet_down_blocks_0.lora_down.weight", one}}), Contains("LoRA"));
  CHECK_THAT(message({{"double_blocks.0.img_attn.norm.key_norm.scale", one}}), Contains("Flux"));
  CHECK_THAT(message({{"down_blocks.0.resnets.0.conv1.weight", one}}),
             Contains("diffusers' layout") && Contains("config.json"));
  // If a UNet lacks a layer or has a tensor of the wrong rank, the error names it and is none of the JSON library's.
  CHECK_THAT(message({{"model.diffusion_model.input_blocks.0.0.weight", one}}), Contains("expected 4 axes"));
  CHECK_THAT(message({{"model.diffusion_model.input_blocks.0.0.weight", at::ones({1, 1, 1, 1})}}),
             Contains("lacks the tensor 'input_blocks.1.0.in_layers.2.weight'"));
  spill_pickle(scratch / "x.ckpt", {{"weight", one}});
  CHECK_THAT(opening(scratch / "x.ckpt"), Contains("cannot tell what model this is") && Contains("found 'weight'"));
  CHECK_THAT(opening(fixture("io/fixtures/pickles/embedding_web_ui.pt")),
             Contains("the tensor 'string_to_param.*' is that of a textual inversion"));
  CHECK_THAT(opening(scratch / "none"), Contains("no such file or folder"));
}

TEST_CASE("ModelFiles finds the tokenizer, or says how to name one", "[io]") {
  const ScratchDir scratch;
  const auto path = scratch / "model" / "x.safetensors";
  std::filesystem::create_directories(path.parent_path());
  write_ldm(path, ldm_tensors(ldm_table("tiny_open_clip")));
  CHECK_THAT(error_of([&] { static_cast<void>(ModelFiles::open(path).tokenizer()); }),
             Contains("vocab.json and merges.txt") && Contains("set 'tokenizer' to name their folder"));
  const auto add = [&](const std::filesystem::path& folder) {
    spill(folder / "vocab.json", "{}");
    spill(folder / "merges.txt", "#version: 0.2\n");
    spill(folder / "tokenizer_config.json", R"({"pad_token":"<|endoftext|>","model_max_length":77})");
  };
  add(scratch / "elsewhere" / "tokenizer");
  for (const char* given : {"elsewhere", "elsewhere/tokenizer"}) {
    const auto found = ModelFiles::open(path, {.tokenizer = scratch / given}).tokenizer();
    CHECK(found.vocab == scratch / "elsewhere/tokenizer" / "vocab.json");
    CHECK(found.merges == scratch / "elsewhere/tokenizer" / "merges.txt");
    CHECK(found.config["model_max_length"] == 77);
    CHECK(found.config["pad_token"] == "!");  // OpenCLIP's padding is token 0, which is "!"
  }
  add(scratch / "model" / "tokenizer");
  CHECK(ModelFiles::open(path).tokenizer().vocab == scratch / "model/tokenizer/vocab.json");
  CHECK_THAT(error_of([&] { static_cast<void>(ModelFiles::open(path, {.tokenizer = scratch / "no"}).tokenizer()); }),
             Contains("no tokenizer"));
  write_ldm(path, ldm_tensors(ldm_table("tiny_clip")));
  CHECK(ModelFiles::open(path).tokenizer().config["pad_token"] == "<|endoftext|>");
}

TEST_CASE("ModelFiles opens the published TAESD files under AutoencoderTiny's names", "[io]") {
  const auto data = ip2p::testing::shared_data();
  if (!data || !std::filesystem::exists(*data / "taesd" / "taesd_encoder.safetensors")) {
    WARN("skipped: the TAESD weights are not in the test data");
    return;
  }
  const auto files = ModelFiles::open(*data / "taesd");
  const auto weights = files.weights("vae");
  std::ifstream stream(ip2p::testing::fixture("io/fixtures/autoencoder_tiny.txt"));
  std::size_t count = 0;
  for (std::string name, shape; stream >> name >> shape; ++count) {
    INFO(name);
    REQUIRE(weights.contains(name));
    CHECK(weights.at(name).shape == ip2p::testing::parse_shape(shape));
  }
  CHECK(count == 134);
  CHECK(weights.size() == count);
  const auto config = files.config("vae");
  CHECK(config["_class_name"] == "AutoencoderTiny");
  CHECK(config["num_encoder_blocks"] == std::vector<int>{1, 3, 3, 3});
  CHECK(config["num_decoder_blocks"] == std::vector<int>{3, 3, 3, 1});
  CHECK(config["latent_channels"] == 4);
  CHECK_THAT(opening(*data / "taesd" / "taesd_encoder.safetensors"), Contains("cannot tell what model"));
  CHECK_THAT(error_of([&] {
               static_cast<void>(ip2p::taesd_weights(*data / "taesd" / "taesd_encoder.safetensors",
                                                     *data / "taesd" / "taesd_encoder.safetensors"));
             }),
             Contains("is not a TAESD decoder"));
}
