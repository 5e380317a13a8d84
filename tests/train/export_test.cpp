#include "ip2p/train/export.hpp"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "io/ldm_table.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
using ip2p::testing::fixture;
using ip2p::testing::ldm_table;
using ip2p::testing::ScratchDir;

namespace {

/// The three models of the published shape, small, with seeded weights.
struct Models {
  UNet unet;
  KlAutoencoder codec;
  ClipTextModel text;
};

Models tiny(std::int64_t in_channels = 4) {
  const auto reference = ip2p::testing::ldm_reference_config("tiny_clip");
  auto unet = UNetConfig::from_json(reference["unet"], "unet");
  unet.in_channels = in_channels;
  Models models{UNet(unet), KlAutoencoder(KlAutoencoderConfig::from_json(reference["vae"], "vae")),
                ClipTextModel(ClipTextConfig::from_json(reference["text_encoder"], "text"))};
  initialise(models.unet.module(), 1);
  initialise(models.codec.module(), 2);
  initialise(models.text.module(), 3);
  return models;
}

template <class Model>
void check_weights(const Model& model, const ModelFiles& files, at::ScalarType dtype) {
  const std::string component = Model::component;
  INFO(component << " in " << files.path());
  CHECK(Model::Config::from_json(files.config(component), component).to_json() == model.config().to_json());
  const auto found = files.weights(component);
  const auto expected = state_of(model.module());
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    INFO(name);
    REQUIRE(found.contains(name));
    CHECK(found.at(name).dtype == dtype);
    CHECK(at::equal(found.at(name).read(), tensor.to(dtype)));
  }
}

void save(const std::filesystem::path& path, const Models& models, const ExportOptions& options = {}) {
  save_single_file(path, models.unet, models.codec, models.text, options);
}

}  // namespace

TEST_CASE("Every name in the published single files is derived from that of diffusers", "[train]") {
  const std::string model = GENERATE("sd15", "sd21", "tiny_clip", "tiny_open_clip");
  const auto table = ldm_table(model);
  const auto reference = ip2p::testing::ldm_reference_config(model);
  const auto config = UNetConfig::from_json(reference["unet"], "unet");
  const auto levels = static_cast<std::int64_t>(config.block_out_channels.size());
  for (const auto& row : table.at("unet")) {
    INFO(row.target);
    CHECK("model.diffusion_model." +
              ip2p::detail::unet_ldm_key(row.target, config.layers_per_block, levels, config.cross_attention) ==
          row.source);
  }
  for (const auto& row : table.at("vae")) {
    INFO(row.target);
    const auto scales = static_cast<std::int64_t>(reference["vae"]["block_out_channels"].size());
    CHECK("first_stage_model." + ip2p::detail::vae_ldm_key(row.target, scales) == row.source);
  }
  const auto key = [&](const std::string& name) {
    return ip2p::detail::unet_ldm_key(name, config.layers_per_block, levels, config.cross_attention);
  };
  for (const char* foreign : {"add_embedding.linear_1.weight", "down_blocks.9.resnets.0.conv1.weight",
                              "up_blocks.0.other.0.weight", "mid_block.resnets.0.other.weight"}) {
    CHECK_THROWS_WITH(key(foreign), Contains(std::string(foreign)) && Contains("no name in a single-file checkpoint"));
  }
  CHECK_THROWS_WITH(ip2p::detail::vae_ldm_key("encoder.down_blocks.9.resnets.0.conv1.weight", 4),
                    Contains("no name in a single-file checkpoint"));
}

TEST_CASE("A single file holds the published names and shapes and nothing else", "[train]") {
  const ScratchDir scratch;
  save(scratch / "model.safetensors", tiny());
  const auto file = SafetensorsFile::open(scratch / "model.safetensors");
  std::set<std::string> expected;
  for (const auto& [part, rows] : ldm_table("tiny_clip")) {
    for (const auto& row : rows) {
      expected.insert(row.source);
      INFO(row.source);
      REQUIRE(file.contains(row.source));
      CHECK(file.info(row.source).shape == row.shape);
      CHECK(file.info(row.source).dtype == at::kHalf);
    }
  }
  CHECK(file.tensors().size() == expected.size());
  CHECK(file.metadata().at("format") == "pt");
}

TEST_CASE("A folder and a single file preserve the weights and the configuration bit for bit", "[train]") {
  const auto dtype = GENERATE(at::kFloat, at::kHalf, at::kBFloat16);
  const ScratchDir scratch;
  const auto models = tiny(8);
  ExportOptions options;
  options.dtype = dtype;
  options.scheduler.prediction = PredictionType::v_prediction;
  save_model(scratch / "folder", models.unet, models.codec, models.text, options);
  save(scratch / "model.safetensors", models, options);
  for (const auto* name : {"folder", "model.safetensors"}) {
    const auto files = ModelFiles::open(scratch / name);
    check_weights(models.unet, files, dtype);
    check_weights(models.codec, files, dtype);
    check_weights(models.text, files, dtype);
    const auto scheduler = scheduler_config_from_json(files.config("scheduler"), "scheduler");
    CHECK(scheduler.prediction == PredictionType::v_prediction);
    CHECK(scheduler.noise.curve == BetaCurve::scaled_linear);
    CHECK(scheduler.noise.beta_end == 0.012);
  }
  if (dtype == at::kFloat) {
    const auto loaded = load<UNet>(ModelFiles::open(scratch / "model.safetensors"));
    const at::NoGradGuard no_grad;
    const auto x = CounterNoise(4).normal({1, 8, 8, 8}, 0), context = CounterNoise(5).normal({1, 3, 16}, 0);
    // Not the same bits: kernels depend on where in memory a mapped weight begins.
    CHECK(at::allclose(loaded(x, at::full({1}, 500.0), context),
                       load<UNet>(ModelFiles::open(scratch / "folder"))(x, at::full({1}, 500.0), context), 0, 1e-5));
  }
}

TEST_CASE("A folder names its pipeline, keeps settings and includes the tokenizer", "[train]") {
  const ScratchDir scratch;
  ExportOptions options;
  std::filesystem::create_directories(scratch / "words/more");
  std::ofstream(scratch / "words/vocab.json") << "{}";
  std::ofstream(scratch / "words/merges.txt") << "\n";
  options.tokenizer = scratch / "words";
  options.settings = {{"steps", 7}};
  const auto models = tiny(8);
  save_model(scratch / "folder", models.unet, models.codec, models.text, options);
  const auto files = ModelFiles::open(scratch / "folder");
  CHECK(files.settings() == options.settings);
  CHECK(files.tokenizer().vocab == scratch / "folder/tokenizer/vocab.json");
  const auto pipeline = [&](std::int64_t channels) {
    save_model_index(scratch / "index", channels);
    std::ifstream stream(scratch / "index/model_index.json");
    return nlohmann::json::parse(stream).at("_class_name").get<std::string>();
  };
  CHECK(pipeline(4) == "StableDiffusionPipeline");
  CHECK(pipeline(8) == "StableDiffusionInstructPix2PixPipeline");
  CHECK(pipeline(9) == "StableDiffusionInpaintPipeline");
  options.tokenizer = scratch / "nothing";
  CHECK_THROWS_WITH(save_model_index(scratch / "folder", 8, options),
                    Contains("cannot list '" + options.tokenizer.string() + "'"));
}

TEST_CASE("A scheduler's configuration is read as it was written", "[train]") {
  SchedulerConfig config;
  config.noise = {.timesteps = 500, .beta_start = 0.001, .beta_end = 0.02, .curve = BetaCurve::squared_cosine};
  config.noise.zero_terminal_snr = true;
  config.spacing = TimestepSpacing::trailing;
  config.steps_offset = 1;
  config.prediction = GENERATE(PredictionType::epsilon, PredictionType::v_prediction, PredictionType::sample);
  config.use_karras_sigmas = GENERATE(false, true);
  const auto json = scheduler_config_to_json(config);
  const auto back = scheduler_config_from_json(json, "scheduler");
  CHECK(back.noise.timesteps == 500);
  CHECK(back.noise.beta_start == 0.001);
  CHECK(back.noise.beta_end == 0.02);
  CHECK(back.noise.curve == BetaCurve::squared_cosine);
  CHECK(back.noise.zero_terminal_snr);
  CHECK(back.spacing == TimestepSpacing::trailing);
  CHECK(back.steps_offset == 1);
  CHECK(back.prediction == config.prediction);
  CHECK(back.use_karras_sigmas == config.use_karras_sigmas);
  // diffusers' ancestral scheduler has neither.
  const bool plain = config.prediction != PredictionType::sample && !config.use_karras_sigmas;
  CHECK(json["_class_name"] == (plain ? "EulerAncestralDiscreteScheduler" : "EulerDiscreteScheduler"));
  config.noise.betas = {0.1, 0.2, 0.3};
  CHECK(scheduler_config_from_json(scheduler_config_to_json(config), "scheduler").noise.betas == config.noise.betas);
}

TEST_CASE("A run's averaged or last weights can be taken from its checkpoint", "[train]") {
  const ScratchDir scratch;
  const auto trained = tiny();
  TrainingOptions options;
  options.folder = scratch.path();
  options.ema_decay = 0.5;
  const auto parameters = Parameters().add(trained.unet);
  const auto loss = [&](std::int64_t) {
    at::Tensor sum = at::zeros({});
    for (const auto& weight : parameters.tensors) sum = sum + weight.square().sum();
    return sum;
  };
  Trainer run(parameters, loss, ConstantRate{1e-2}, options);
  run.run(3);
  const auto checkpoint = *CheckpointFolder(scratch.path()).load_newest();
  const auto other = tiny();
  const auto same = [&](const std::vector<at::Tensor>& expected) {
    const auto found = other.unet.module().parameters();
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (!at::equal(found[i], expected[i])) return false;
    }
    return true;
  };
  load_trained(other.unet, checkpoint);
  CHECK(same(run.average().average()));
  CHECK_FALSE(same(run.parameters().tensors));
  load_trained(other.unet, checkpoint, TrainedWeights::last);
  CHECK(same(run.parameters().tensors));

  const auto before = state_of(other.text.module()).begin()->second.clone();
  CHECK_THROWS_WITH(load_trained(other.text, checkpoint),
                    Contains("checkpoint of step 3: no tensor 'average/text_encoder.text_model"));
  CHECK(at::equal(state_of(other.text.module()).begin()->second, before));
  CHECK_THROWS_WITH(load_trained(tiny(8).unet, checkpoint),
                    Contains("'average/unet.conv_in.weight': expected [32, 8, 3, 3], found [32, 4, 3, 3]"));
}

TEST_CASE("A model that readers would take for another is refused as a single file", "[train]") {
  const ScratchDir scratch;
  const auto path = scratch / "model.safetensors";
  const auto models = tiny();
  const auto refused = [&](const Models& changed, const ExportOptions& options, const std::string& words) {
    initialise(changed.unet.module(), 1);
    initialise(changed.codec.module(), 2);
    initialise(changed.text.module(), 3);
    CHECK_THROWS_WITH(save(path, changed, options), Contains(words) && Contains("save_model instead"));
    CHECK_FALSE(std::filesystem::exists(path));
  };
  auto unet = models.unet.config();
  unet.heads = {4, 4};
  refused({UNet(unet), models.codec, models.text}, {}, "unet: attention_head_dim: expected [8,8], which readers");
  unet = models.unet.config();
  unet.norm_num_groups = 16;
  refused({UNet(unet), models.codec, models.text}, {}, "unet: norm_num_groups: expected 32");
  auto codec = models.codec.config();
  codec.scaling_factor = 0.5;
  refused({models.unet, KlAutoencoder(codec), models.text}, {}, "vae: scaling_factor: expected 0.18215");
  auto text = models.text.config();
  text.hidden_act = "gelu";
  refused({models.unet, models.codec, ClipTextModel(text)}, {}, "text_encoder: hidden_act: expected \"quick_gelu\"");
  ExportOptions options;
  options.scheduler.prediction = PredictionType::sample;
  refused(models, options, "scheduler: prediction_type: expected \"epsilon\"");
  options.scheduler = {};
  options.scheduler.noise.beta_end = 0.02;
  refused(models, options, "scheduler: beta_end: expected 0.012");
  options.scheduler = {};
  options.scheduler.noise.betas = {0.1, 0.2};
  refused(models, options, "scheduler: trained_betas");
  options.scheduler = {};
  options.scheduler.use_karras_sigmas = true;
  refused(models, options, "scheduler: use_karras_sigmas: expected false");
}

TEST_CASE("Models that were used for inference are written bit for bit", "[train]") {
  const at::NoGradGuard no_grad;
  const ScratchDir scratch;
  auto models = tiny(8);
  ExportOptions options;
  options.dtype = at::kFloat;
  save_model(scratch / "before", models.unet, models.codec, models.text, options);
  models.unet.freeze();
  models.codec.freeze();
  models.text.freeze();
  const auto latents = models.codec.encode(CounterNoise(3).normal({1, 3, 64, 64}, 0));
  CHECK(models.codec.decode(latents).size(2) == 64);
  models.unet(CounterNoise(4).normal({1, 8, 8, 8}, 0), at::full({1}, 500.0), CounterNoise(5).normal({1, 3, 16}, 0));
  // Weights in a form of inference: packed by oneDNN, or in the order of Winograd's filtering.
  const auto formed = [](const Module& module) {
    const auto all = module.parameters();
    return std::count_if(all.begin(), all.end(), [](const at::Tensor& parameter) {
      return parameter.is_mkldnn() || parameter.dim() == 5 || !parameter.is_contiguous();
    });
  };
  CHECK(formed(models.unet.module()) > 10);
  CHECK(formed(models.codec.module()) > 10);
  save_model(scratch / "after", models.unet, models.codec, models.text, options);
  save(scratch / "after.safetensors", models, options);
  const auto before = ModelFiles::open(scratch / "before");
  for (const char* name : {"after", "after.safetensors"}) {
    const auto after = ModelFiles::open(scratch / name);
    for (const std::string component : {"unet", "vae", "text_encoder"}) {
      const auto expected = before.weights(component);
      const auto found = after.weights(component);
      REQUIRE(found.size() == expected.size());
      for (const auto& [key, entry] : expected) {
        INFO(name << ": " << component << '.' << key);
        CHECK(at::equal(found.at(key).read(), entry.read()));
      }
    }
  }
}

TEST_CASE("If weights do not fit or cannot be written, the old file stays", "[train]") {
  const ScratchDir scratch;
  const auto path = scratch / "model.safetensors";
  const auto models = tiny();
  save(path, models);
  const auto old = SafetensorsFile::open(path).tensor("model.diffusion_model.out.2.bias").clone();
  ExportOptions options;
  options.dtype = at::kDouble;
  CHECK_THROWS_WITH(save(path, models, options), Contains("dtype: expected fp32, fp16 or bf16, found Double"));
  {
    const at::NoGradGuard no_grad;
    models.unet.module().conv_out->bias.fill_(70000.0);
  }
  CHECK_THROWS_WITH(save(path, models), Contains("unet: tensor 'conv_out.bias': expected values that Half can hold"));
  CHECK_THROWS_WITH(save_component(models.unet, scratch / "folder"), Contains("that Half can hold"));
  CHECK(at::equal(SafetensorsFile::open(path).tensor("model.diffusion_model.out.2.bias"), old));
  options.dtype = at::kBFloat16;  // has fp32's range
  CHECK_NOTHROW(save(path, models, options));
  CHECK_THROWS_WITH(save(scratch / "nowhere/model.safetensors", tiny()), Contains("there is no folder"));
}
