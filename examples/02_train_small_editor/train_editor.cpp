#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cached_edits.hpp"
#include "evaluation.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/train/training_levels.hpp"
#include "ip2p/unet/unet.hpp"
#include "photographs.hpp"
#include "start_at_condition.hpp"
#include "support/loss_plot.hpp"
#include "training.hpp"
#include "warm_start.hpp"

namespace small_editor {
namespace {

/// Timesteps of which half are among the highest fifth: t = N u^(1/3) for u uniform. At the highest noise levels, the
/// network has to find the whole edit in the photograph and the instruction. At low levels, the noisy picture already
/// shows most of it, and a sampler can hardly correct there what it missed before.
class NoisyTimesteps {
 public:
  [[nodiscard]] ip2p::TrainingLevel draw(ip2p::SampleRandom& random) const {
    const auto count = static_cast<double>(schedule_.timesteps());
    const auto t = static_cast<std::size_t>(std::min(count * std::cbrt(random.uniform()), count - 1));
    return {schedule_.training_sigmas()[t], static_cast<double>(t), schedule_.alphas_cumprod()[t]};
  }

 private:
  ip2p::DiscreteSchedule schedule_;
};
static_assert(ip2p::TrainingLevelsPolicy<NoisyTimesteps>);

/// Text model, UNet and everything their training needs.
ip2p::UNetConfig unet_config(const std::vector<std::int64_t>& channels, std::int64_t latents) {
  ip2p::UNetConfig config;
  config.in_channels = 2 * latents;
  config.out_channels = latents;
  config.block_out_channels = channels;
  config.cross_attention.assign(channels.size(), true);
  config.cross_attention[0] = false;
  config.layers_per_block = 1;
  config.cross_attention_dim = 128;
  config.heads.clear();
  for (const auto width : channels) config.heads.push_back(std::max<std::int64_t>(1, width / 32));
  config.transformer_layers.assign(channels.size(), 1);
  config.norm_num_groups = 4;  // narrow groups would hide the colours of a picture from the layers behind them
  return config;
}

ip2p::ClipTextConfig text_config() {
  ip2p::ClipTextConfig config;
  config.hidden_size = 128;
  config.intermediate_size = 512;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  return config;
}

void write_model(const std::filesystem::path& folder, const ip2p::UNet& unet, const ip2p::ClipTextModel& text,
                 const std::filesystem::path& tokenizer, std::int64_t picture) {
  ip2p::save_component(unet, folder);
  ip2p::save_component(text, folder);
  ip2p::ExportOptions options;
  options.scheduler.prediction = ip2p::PredictionType::sample;
  options.tokenizer = tokenizer;
  auto known = nlohmann::json::object();
  for (const auto& family : edit_families()) known[std::string(family.name)] = family.words;
  // The model was trained without text dropped, so text scales above 1 have nothing sound to push away from; the ranges
  // are those in which its pictures stay sound (models/small-editor/README.md).
  options.settings = {{"steps", 2},
                      {"resolution", picture},
                      {"image_scale", 1.0},
                      {"text_scale", 1.0},
                      {"image_scale_range", {1.0, 1.2}},
                      {"text_scale_range", {0.75, 1.5}},
                      {"sampler", "euler"},
                      {"knows", known}};
  ip2p::save_model_index(folder, unet.in_channels(), options, "AutoencoderDC");
}

/// Prints scores of pictures made with the weights as they are, and writes the pictures.
template <class Pipeline>
void measure(const Pipeline& pipeline, std::span<const at::Tensor> squares, const std::filesystem::path& folder,
             std::int64_t step, const example::Interrupt& interrupt) {
  const auto scores =
      evaluate_in_training(pipeline, squares, {.steps = 4, .seed = 1, .hooks = {.stop = interrupt.token()}});
  if (!scores) return;
  const auto total = scores->total();
  fmt::print("step {}: right edit {} of {}, {:.2f} dB to target (unedited {:.2f}), empty {:.2f} dB\n", step,
             total.nearest, total.edits, total.psnr_edit, total.psnr_unedited, scores->psnr_empty);
  std::fflush(stdout);
  write_sheet(folder / "sheet.png", scores->sheet);
}

}  // namespace

int train_editor(const Settings& settings, const EditorSettings& wanted, const example::Interrupt& interrupt) {
  const auto files = ip2p::ModelFiles::open(settings.work / "model");
  const ip2p::FolderLock lock(settings.work, {"vae", "editor", "model"});
  std::map<std::string, std::filesystem::path> inputs{{"autoencoder", settings.work / "model" / "vae"},
                                                      {"--tokenizer", wanted.tokenizer}};
  if (!wanted.start.empty()) inputs["--start"] = wanted.start;
  auto record = run_record(settings, settings.work / "editor", inputs);
  record.agree(settings.change);
  if (record.finished() >= wanted.steps && std::filesystem::exists(settings.work / "model" / "model_index.json")) {
    fmt::print("complete already, at step {}: {}\n", record.finished(), (settings.work / "model").string());
    return 0;
  }
  auto codec = ip2p::load<ip2p::DcAutoencoder>(files);
  const auto photographs = load_all(split_photographs(settings.photographs).training, 4 * settings.picture, interrupt);
  const auto squares = held_out_squares(settings, interrupt, 2);

  ip2p::UNet unet(unet_config(wanted.channels, codec.latent_channels()));
  ip2p::initialise(unet.module(), settings.seed);
  ip2p::ClipTextModel text(text_config());
  if (wanted.start.empty()) {
    start_at_condition(unet, codec.scaling_factor());
    ip2p::initialise(text.module(), settings.seed + 1);
  } else {
    const auto start_files = ip2p::ModelFiles::open(wanted.start);
    std::vector<at::Tensor> images;
    for (const auto& square : squares_of(photographs, settings.picture)) images.push_back(square * 2 - 1);
    start_at_editor(unet, ip2p::load<ip2p::UNet>(start_files, {.inference = false}), codec,
                    ip2p::load_codec(start_files), at::stack(images));
    text = ip2p::load<ip2p::ClipTextModel>(start_files, {.inference = false});
  }
  const ip2p::ClipTextEncoder encoder(ip2p::BpeTokenizer::open(wanted.tokenizer), text);

  const auto smaller =
      std::max<std::int64_t>(1, settings.picture * settings.picture / (wanted.coarse_side * wanted.coarse_side));
  const auto coarse_crops = std::min<std::int64_t>(smaller, 8) * wanted.crops;
  CachedEditsOptions coarse_options{wanted.coarse_side, settings.picture, coarse_crops,
                                    wanted.varied,      wanted.unedited,  settings.seed};
  CachedEditsOptions fine_options{settings.picture, settings.picture, wanted.crops,
                                  wanted.varied,    wanted.unedited,  settings.seed + 1};
  CachedEdits coarse(codec, photographs, coarse_options);
  CachedEdits fine(codec, photographs, fine_options);

  ip2p::DiffusionLossOptions sampling;
  sampling.seed = settings.seed;
  sampling.scaling_factor = codec.scaling_factor();
  sampling.compute = ip2p::parse_dtype(wanted.compute, at::kCPU);
  // Computed edits are deterministic, so predicting the picture is easier than predicting the noise.
  const ip2p::SamplePrediction prediction;
  // "" belongs to the unedited photograph here (see CachedEdits), so text alone is never dropped.
  const ip2p::ConditioningDropout dropout{.text = 0.0, .both = 0.05, .image = 0.0};
  // As many more crops as they are smaller, so that updates cost about the same.
  sampling.batch = smaller * wanted.batch;
  const ip2p::DiffusionLoss coarse_loss(unet, encoder, coarse, NoisyTimesteps{}, prediction, sampling, dropout);
  sampling.batch = wanted.batch;
  const ip2p::DiffusionLoss fine_loss(unet, encoder, fine, NoisyTimesteps{}, prediction, sampling, dropout);
  const auto objective = [&](std::int64_t step, std::int64_t part, std::int64_t parts) {
    return step < wanted.coarse_steps ? coarse_loss(step, part, parts) : fine_loss(step, part, parts);
  };

  ip2p::TrainingOptions options;
  options.folder = settings.work / "editor";
  options.checkpoint_every = 250;
  options.clip_norm = 1.0;
  options.threads = settings.shards;
  ip2p::Trainer run(ip2p::Parameters().add(unet).add(text), objective,
                    ip2p::WarmupCosine{wanted.rate, 100, wanted.steps, 0.02}, options);
  std::vector<std::string> skipped;
  const bool resumed = run.resume(&skipped);
  report_resumption(resumed, run.step(), skipped);
  record.begin(run.step());
  fmt::print("{:.2f} M parameters, scaling factor {:.4f}\n", static_cast<double>(run.parameters().elements()) / 1e6,
             codec.scaling_factor());

  const ip2p::EditPipeline pipeline{
      encoder,       codec,
      unet,          ip2p::diffusion_of(ip2p::SchedulerConfig{.prediction = ip2p::PredictionType::sample}),
      ip2p::Euler{}, ip2p::DualGuidance{1.0, 1.0}};
  Report report(run.step(), wanted.steps);
  const bool complete = run.run(
      wanted.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (progress.step % 1000 == 0 || progress.step == 200) {
          run.with_average([&] { measure(pipeline, squares, options.folder, progress.step, interrupt); });
          run.with_average(
              [&] { write_model(settings.work / "model", unet, text, wanted.tokenizer, settings.picture); });
        }
      },
      interrupt.token());
  example::plot_loss(options.folder / "loss.png", run.curve().points());
  run.swap_average();
  write_model(settings.work / "model", unet, text, wanted.tokenizer, settings.picture);
  record.finish(run.step());
  fmt::print("{} at step {}: wrote {}\n", complete ? "complete" : "stopped", run.step(),
             (settings.work / "model").string());
  return complete ? 0 : stopped(run.step());
}

}  // namespace small_editor
