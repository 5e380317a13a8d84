#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <map>
#include <string>

#include "io/ldm_table.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

// What single files and training checkpoints say about themselves beside their weights.

namespace {

using ip2p::ModelFiles;
using ip2p::testing::ScratchDir;
using Tensors = std::map<std::string, at::Tensor>;

/// The UNet of `model` under its single-file names, all zero.
Tensors marked_unet(const std::string& model) {
  Tensors tensors;
  const auto table = ip2p::testing::ldm_table(model);
  for (const auto& row : table.at("unet")) {
    tensors[row.source] = at::zeros({1}, at::kHalf).expand(row.shape);
  }
  return tensors;
}

/// The smallest UNet that has the context of Stable Diffusion 2.
Tensors small_sd2() {
  auto tensors = marked_unet("tiny_open_clip");
  for (auto& [name, tensor] : tensors) {
    if (name.ends_with("attn2.to_k.weight") || name.ends_with("attn2.to_v.weight")) {
      tensor = at::zeros({tensor.size(0), 1024}, at::kHalf);
    }
  }
  auto& first = tensors.at("model.diffusion_model.input_blocks.0.0.weight");
  first = at::zeros({first.size(0), 4, 3, 3}, at::kHalf);
  return tensors;
}

nlohmann::json scheduler_of(const std::filesystem::path& path, Tensors tensors,
                            const std::map<std::string, std::string>& metadata = {}) {
  for (auto& [name, tensor] : tensors) tensor = tensor.contiguous();
  ip2p::write_safetensors(path, tensors, metadata);
  return ModelFiles::open(path).config("scheduler");
}

}  // namespace

TEST_CASE("A single file's marks and metadata tell what its network predicts", "[io]") {
  const ScratchDir scratch;
  const auto plain = marked_unet("tiny_clip");
  CHECK(scheduler_of(scratch / "plain.safetensors", plain)["prediction_type"] == "epsilon");
  auto marked = plain;
  marked["v_pred"] = at::zeros({0});
  const auto velocity = scheduler_of(scratch / "v.safetensors", marked);
  CHECK(velocity["prediction_type"] == "v_prediction");
  CHECK_FALSE(velocity.contains("rescale_betas_zero_snr"));
  marked["ztsnr"] = at::zeros({0});
  const auto zero = scheduler_of(scratch / "z.safetensors", marked);
  CHECK(zero["rescale_betas_zero_snr"] == true);
  CHECK(zero["timestep_spacing"] == "trailing");
  const auto config = ip2p::scheduler_config_from_json(zero, "z");
  CHECK((config.noise.zero_terminal_snr && config.prediction == ip2p::PredictionType::v_prediction));

  for (const auto& [word, type] : std::map<std::string, std::string>{
           {"v", "v_prediction"}, {"v_prediction", "v_prediction"}, {"epsilon", "epsilon"}, {"sample", "sample"}}) {
    CHECK(scheduler_of(scratch / "m.safetensors", plain, {{"modelspec.prediction_type", word}})["prediction_type"] ==
          type);
  }
  CHECK_THROWS_WITH(scheduler_of(scratch / "m.safetensors", plain, {{"modelspec.prediction_type", "flow"}}),
                    Contains("modelspec.prediction_type: expected epsilon, v or sample, found 'flow'"));
}

TEST_CASE("A Stable Diffusion 2 file is not taken for the wrong one of two models", "[io]") {
  const ScratchDir scratch;
  const auto model = small_sd2();
  CHECK(scheduler_of(scratch / "v2-1_768-ema-pruned.safetensors", model)["prediction_type"] == "v_prediction");
  CHECK(scheduler_of(scratch / "512-base-ema.safetensors", model)["prediction_type"] == "epsilon");
  for (const auto& [steps, type] : std::map<std::int64_t, std::string>{{220000, "epsilon"}, {140000, "v_prediction"}}) {
    auto trained = model;
    trained["global_step"] = at::full({}, steps, at::kLong);
    CHECK(scheduler_of(scratch / "steps.safetensors", trained)["prediction_type"] == type);
  }
  const auto unknown = scheduler_of(scratch / "my-merge.safetensors", model);
  CHECK_THROWS_WITH(ip2p::scheduler_config_from_json(unknown, "m"),
                    Contains("set 'prediction_type' (epsilon") && Contains("v_prediction for that of 768"));
  const auto asked = ModelFiles::open(scratch / "my-merge.safetensors", {.prediction_type = "v_prediction"});
  CHECK(asked.config("scheduler")["prediction_type"] == "v_prediction");
}

TEST_CASE("Weights in 8 bits are read, and multiplied by the scales that are stored with them", "[io]") {
  const ScratchDir scratch;
  const std::string layer = "model.diffusion_model.time_embed.0";
  auto tensors = marked_unet("tiny_clip");
  for (auto& [name, tensor] : tensors) tensor = tensor.contiguous();
  const auto shape = tensors.at(layer + ".weight").sizes().vec();
  tensors[layer + ".weight"] = at::full(shape, 1.5, at::kFloat).to(at::kFloat8_e4m3fn);
  ip2p::write_safetensors(scratch / "fp8.safetensors", tensors);
  const std::string name = "time_embedding.linear_1.weight";
  CHECK(ModelFiles::open(scratch / "fp8.safetensors")
            .weights("unet")
            .at(name)
            .read()
            .to(at::kFloat)
            .equal(at::full(shape, 1.5, at::kFloat)));

  tensors["scaled_fp8"] = at::zeros({2}).to(at::kFloat8_e4m3fn);
  tensors[layer + ".scale_weight"] = at::full({}, 4.0, at::kFloat);
  tensors[layer + ".scale_input"] = at::ones({});
  ip2p::write_safetensors(scratch / "scaled.safetensors", tensors);
  const auto weights = ModelFiles::open(scratch / "scaled.safetensors").weights("unet");
  CHECK(weights.at(name).read().equal(at::full(shape, 6.0, at::kFloat)));
  for (const auto& [stored, entry] : weights) CHECK(stored.find("scale") == std::string::npos);
}

TEST_CASE("A single file without a middle block gets a configuration without one", "[io]") {
  const ScratchDir scratch;
  auto tensors = marked_unet("tiny_clip");
  std::erase_if(tensors, [](const auto& item) { return item.first.find(".middle_block.") != std::string::npos; });
  for (auto& [name, tensor] : tensors) tensor = tensor.contiguous();
  ip2p::write_safetensors(scratch / "distilled.safetensors", tensors);
  CHECK(ModelFiles::open(scratch / "distilled.safetensors").config("unet")["mid_block_type"].is_null());
}

TEST_CASE("A training checkpoint's UNet is completed by the model that it was trained from", "[io]") {
  const ScratchDir scratch;
  const auto whole = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p");
  const auto training = scratch / "checkpoint-500";
  for (const char* name : {"unet", "unet_ema"}) {
    std::filesystem::create_directories(training / name);
    std::filesystem::copy(whole / "unet", training / name, std::filesystem::copy_options::recursive);
  }
  const auto alone = ModelFiles::open(training);
  CHECK_THROWS_WITH(alone.tokenizer(), Contains("checkpoint-500: has no tokenizer, because it holds only a UNet") &&
                                           Contains("set 'base'"));
  CHECK_THROWS_WITH(alone.config("vae"), Contains("has no component 'vae'") && Contains("set 'base'"));
  CHECK_THAT(alone.describe(), Contains("unet_ema") && Contains("the EMA weights"));
  CHECK_THAT(ModelFiles::open(training, {.prefer_ema = false}).describe(), !Contains("unet_ema"));

  ip2p::ModelFilesOptions options;
  options.base = whole;
  const auto both = ModelFiles::open(training, options);
  for (const char* component : {"unet", "vae", "text_encoder", "scheduler"}) CHECK(both.has(component));
  CHECK(both.tokenizer().vocab == whole / "tokenizer" / "vocab.json");
  CHECK_THAT(both.describe(), Contains("vae: AutoencoderKL") && Contains("from " + whole.string()));
}
