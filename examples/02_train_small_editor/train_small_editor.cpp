// Trains a small autoencoder and an instruction-following editor on photographs and computed edits, measures them on
// held-out photographs and phrasings, and writes a model folder that the other programs open.

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/stack.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "autoencoder_loss.hpp"
#include "averaging_start.hpp"
#include "cached_edits.hpp"
#include "evaluation.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/unet.hpp"
#include "photographs.hpp"
#include "start_at_condition.hpp"
#include "support/loss_plot.hpp"
#include "write_pairs.hpp"

namespace {

namespace fs = std::filesystem;
using namespace small_editor;

volatile std::sig_atomic_t interrupted = 0;

/// Settings that every subcommand shares.
struct Settings {
  fs::path photographs;
  fs::path work = "small-editor-training";
  std::int64_t picture = 256;
  std::int64_t shards = 2;
  std::uint64_t seed = 7;
};

struct AutoencoderSettings {
  std::int64_t steps = 4000;
  double rate = 2e-3;
  std::int64_t crops = 8;
  std::vector<std::int64_t> channels{16, 16, 32, 64};
};

struct EditorSettings {
  fs::path tokenizer = "models/clip-tokenizer";
  std::int64_t steps = 6000;
  std::int64_t coarse_steps = 4500;
  std::int64_t batch = 16;
  double rate = 7e-4;
  std::int64_t crops = 80;
  std::vector<std::int64_t> channels{64, 96, 128};
  std::int64_t unedited = 2;
  std::string compute = "fp32";
};

struct EvaluationSettings {
  fs::path model;
  fs::path report;
  std::int64_t steps = 20;
  std::int64_t phrasings = 3;
  std::int64_t photographs = 0;
  double image_scale = 1.0;
  double text_scale = 1.0;
  std::string sampler = "euler";
};

std::vector<at::Tensor> load_all(const std::vector<fs::path>& paths, std::int64_t short_side) {
  std::vector<at::Tensor> photographs;
  for (const auto& path : paths) photographs.push_back(small_editor::load_photograph(path, short_side));
  return photographs;
}

std::vector<at::Tensor> held_out_squares(const Settings& settings) {
  std::vector<at::Tensor> squares;
  for (const auto& path : small_editor::split_photographs(settings.photographs).held_out) {
    squares.push_back(
        small_editor::centre_square(small_editor::load_photograph(path, 4 * settings.picture), settings.picture));
  }
  return squares;
}

void write_sheet(const fs::path& path, const at::Tensor& sheet) { ip2p::write_image(path, ip2p::from_tensor(sheet)); }

/// Prints the mean loss at intervals and turns a signal into a stop request.
struct Report {
  std::stop_source stop;
  std::int64_t every = 50;
  double sum = 0.0;
  std::int64_t count = 0;

  void operator()(const ip2p::TrainingProgress& progress) {
    if (interrupted != 0) stop.request_stop();
    sum += progress.loss;
    if (++count < every) return;
    fmt::print("step {} loss {:.4f} rate {:.2e} {:.0f} s\n", progress.step, sum / static_cast<double>(count),
               progress.rate, progress.seconds);
    std::fflush(stdout);
    sum = 0.0;
    count = 0;
  }
};

void report_resumption(bool resumed, std::int64_t step, const std::vector<std::string>& skipped) {
  for (const auto& line : skipped) fmt::print("skipped: {}\n", line);
  if (resumed) fmt::print("resumed at step {}\n", step);
}

void train_autoencoder(const Settings& settings, const AutoencoderSettings& wanted) {
  const auto split = small_editor::split_photographs(settings.photographs);
  const auto photographs = load_all(split.training, 4 * settings.picture);
  const auto held_out = at::stack(held_out_squares(settings)) * 2 - 1;

  ip2p::KlAutoencoderConfig config;
  config.block_out_channels = wanted.channels;
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  ip2p::KlAutoencoder codec(config);
  start_as_block_average(codec, settings.seed);
  ip2p::TrainingOptions options;
  options.folder = settings.work / "vae";
  options.clip_norm = 1.0;
  options.optimiser.weight_decay = 0.0;
  options.ema_decay = 0.998;
  options.threads = settings.shards;
  AutoencoderLoss objective{codec, photographs, settings.seed};
  objective.pixels = wanted.crops * 64 * 64;
  objective.picture = settings.picture;
  ip2p::Trainer run(ip2p::Parameters().add(codec), objective, ip2p::WarmupCosine{wanted.rate, 100, wanted.steps, 0.05},
                    options);
  std::vector<std::string> skipped;
  const bool resumed = run.resume(&skipped);
  report_resumption(resumed, run.step(), skipped);

  const auto measure = [&] {
    const at::NoGradGuard no_grad;
    at::Tensor decoded;
    run.with_average([&] { decoded = codec.decode(codec.encode(held_out)).clamp(-1, 1); });
    const auto errors = (decoded - held_out).square().mean({1, 2, 3});
    fmt::print("held-out photographs: round trip {:.2f} dB\n", (10 * at::log10(4.0 / errors)).mean().item<double>());
    const auto sheet = at::cat({at::cat(held_out.unbind(0), 2), at::cat(decoded.unbind(0), 2)}, 1);
    write_sheet(options.folder / "sheet.png", ((sheet + 1) * 127.5).round().to(at::kByte));
  };
  Report report;
  const bool complete = run.run(
      wanted.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (progress.step % 500 == 0) measure();
      },
      report.stop.get_token());
  example::plot_loss(options.folder / "loss.png", run.curve().points());
  if (!complete) return;

  // The scaling factor that makes latents of training pictures, edited and not, unit variance.
  run.swap_average();
  const at::NoGradGuard no_grad;
  double square = 0.0;
  double mean = 0.0;
  constexpr std::int64_t batches = 40;
  for (std::int64_t i = 0; i < batches; ++i) {
    const auto latents = codec.encode(objective.batch(i, 0, 1));
    square += latents.square().mean().item<double>() / batches;
    mean += latents.mean().item<double>() / batches;
  }
  config.scaling_factor = 1.0 / std::sqrt(square - mean * mean);
  ip2p::KlAutoencoder scaled(config);
  ip2p::copy_weights(codec.module(), scaled.module());
  ip2p::save_component(scaled, settings.work / "model");
  fmt::print("latents: mean {:.3f}, scaling factor {:.4f}; wrote {}\n", mean, config.scaling_factor,
             (settings.work / "model" / "vae").string());
}

/// Text model, UNet and everything their training needs.
ip2p::UNetConfig unet_config(const std::vector<std::int64_t>& channels) {
  ip2p::UNetConfig config;
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

void write_model(const fs::path& folder, const ip2p::UNet& unet, const ip2p::ClipTextModel& text,
                 const fs::path& tokenizer, std::int64_t picture) {
  ip2p::save_component(unet, folder);
  ip2p::save_component(text, folder);
  ip2p::ExportOptions options;
  options.scheduler.prediction = ip2p::PredictionType::sample;
  options.tokenizer = tokenizer;
  options.settings = {
      {"steps", 6}, {"resolution", picture}, {"image_scale", 1.0}, {"text_scale", 1.0}, {"sampler", "euler"}};
  ip2p::save_model_index(folder, unet.in_channels(), options);
}

/// The decoder without its weights' gradients, and pictures made with the weights as they are.
template <class Pipeline>
void measure(const Pipeline& pipeline, std::span<const at::Tensor> squares, const fs::path& folder, std::int64_t step) {
  const auto scores = evaluate(pipeline, squares, {.steps = 8, .seed = 1});
  const auto total = scores.total();
  fmt::print("step {}: right edit {} of {}, {:.2f} dB to target (unedited {:.2f}), empty {:.2f} dB\n", step,
             total.nearest, total.edits, total.psnr_edit, total.psnr_unedited, scores.psnr_empty);
  std::fflush(stdout);
  write_sheet(folder / "sheet.png", scores.sheet);
}

void train_editor(const Settings& settings, const EditorSettings& wanted) {
  const auto files = ip2p::ModelFiles::open(settings.work / "model");
  auto codec = ip2p::load<ip2p::KlAutoencoder>(files);
  const auto photographs =
      load_all(small_editor::split_photographs(settings.photographs).training, 4 * settings.picture);
  auto squares = held_out_squares(settings);
  squares.resize(std::min<std::size_t>(squares.size(), 2));

  ip2p::UNet unet(unet_config(wanted.channels));
  ip2p::initialise(unet.module(), settings.seed);
  small_editor::start_at_condition(unet, codec.scaling_factor());
  ip2p::ClipTextModel text(text_config());
  ip2p::initialise(text.module(), settings.seed + 1);
  const ip2p::ClipTextEncoder encoder(ip2p::BpeTokenizer::open(wanted.tokenizer), text);

  CachedEditsOptions coarse_options{settings.picture / 2, settings.picture, 3 * wanted.crops, wanted.unedited,
                                    settings.seed};
  CachedEditsOptions fine_options{settings.picture, settings.picture, wanted.crops, wanted.unedited, settings.seed + 1};
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
  // Crops of half the side cost a quarter, so four times as many edits fit into a batch of equal cost.
  sampling.batch = 4 * wanted.batch;
  const ip2p::DiffusionLoss coarse_loss(unet, encoder, coarse, ip2p::UniformTimesteps{}, prediction, sampling, dropout);
  sampling.batch = wanted.batch;
  const ip2p::DiffusionLoss fine_loss(unet, encoder, fine, ip2p::UniformTimesteps{}, prediction, sampling, dropout);
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
  fmt::print("{:.2f} M parameters, scaling factor {:.4f}\n", static_cast<double>(run.parameters().elements()) / 1e6,
             codec.scaling_factor());

  const ip2p::EditPipeline pipeline{
      encoder,       codec,
      unet,          ip2p::diffusion_of(ip2p::SchedulerConfig{.prediction = ip2p::PredictionType::sample}),
      ip2p::Euler{}, ip2p::DualGuidance{1.0, 1.0}};
  Report report;
  const bool complete = run.run(
      wanted.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (progress.step % 500 == 0 || progress.step == 200) {
          run.with_average([&] { measure(pipeline, squares, options.folder, progress.step); });
          run.with_average(
              [&] { write_model(settings.work / "model", unet, text, wanted.tokenizer, settings.picture); });
        }
      },
      report.stop.get_token());
  example::plot_loss(options.folder / "loss.png", run.curve().points());
  run.swap_average();
  write_model(settings.work / "model", unet, text, wanted.tokenizer, settings.picture);
  fmt::print("{} at step {}: wrote {}\n", complete ? "complete" : "stopped", run.step(),
             (settings.work / "model").string());
}

void evaluate_model(const Settings& settings, const EvaluationSettings& wanted) {
  auto pipeline = ip2p::open_editor(wanted.model, {.device = at::kCPU, .dtype = at::kFloat});
  pipeline.sampler = ip2p::AnySampler::named(wanted.sampler);
  pipeline.guidance = {.image_scale = wanted.image_scale, .text_scale = wanted.text_scale};
  auto squares = held_out_squares(settings);
  if (wanted.photographs > 0) squares.resize(std::min(squares.size(), static_cast<std::size_t>(wanted.photographs)));
  const auto scores = evaluate(pipeline, squares, {.steps = wanted.steps}, wanted.phrasings);
  const auto text = table(scores);
  fmt::print("{} photographs, {} steps, {}, image scale {}, text scale {}\n\n{}", squares.size(), wanted.steps,
             wanted.sampler, wanted.image_scale, wanted.text_scale, text);
  if (wanted.report.empty()) return;
  fs::create_directories(wanted.report);
  ip2p::write_file_atomically(wanted.report / "scores.md", std::as_bytes(std::span(text)));
  write_sheet(wanted.report / "sheet.png", scores.sheet);
}

/// One row per photograph: the photograph, then all edits.
void show_edits(const Settings& settings, const fs::path& out) {
  std::vector<at::Tensor> rows;
  for (const auto& square : held_out_squares(settings)) {
    std::vector<at::Tensor> row{square};
    for (const auto& family : edit_families()) row.push_back(family.apply(square));
    rows.push_back(at::cat(row, 2));
  }
  write_sheet(out, (at::cat(rows, 1) * 255).round().to(at::kByte));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains, measures and writes the small editor"};
  app.require_subcommand(1);
  Settings settings;
  AutoencoderSettings autoencoder;
  EditorSettings editor;
  EvaluationSettings evaluation;
  fs::path edits_out = "edits.png";
  fs::path pairs_out;
  const auto shared = [&](CLI::App* command) {
    command->add_option("--photographs", settings.photographs, "folder made by scripts/photographs.sh")->required();
    command->add_option("--work", settings.work, "folder for checkpoints and the model")->capture_default_str();
    command->add_option("--resolution", settings.picture, "side of the pictures in pixels")->capture_default_str();
    command->add_option("--threads", settings.shards, "threads that share each update")->capture_default_str();
    command->add_option("--seed", settings.seed, "random seed")->capture_default_str();
    return command;
  };
  auto* train_codec = shared(app.add_subcommand("autoencoder", "train the autoencoder"));
  train_codec->add_option("--steps", autoencoder.steps, "number of updates")->capture_default_str();
  train_codec->add_option("--rate", autoencoder.rate, "peak learning rate")->capture_default_str();
  train_codec->add_option("--batch", autoencoder.crops, "64-pixel crops per update")->capture_default_str();
  train_codec->add_option("--channels", autoencoder.channels, "channels of the autoencoder, finest resolution first")
      ->capture_default_str();
  auto* train_unet = shared(app.add_subcommand("editor", "train the text encoder and the UNet"));
  train_unet->add_option("--tokenizer", editor.tokenizer, "folder with vocab.json and merges.txt")
      ->capture_default_str();
  train_unet->add_option("--steps", editor.steps, "number of updates")->capture_default_str();
  train_unet->add_option("--coarse-steps", editor.coarse_steps, "how many of them use crops of half the side")
      ->capture_default_str();
  train_unet->add_option("--batch", editor.batch, "whole pictures per update")->capture_default_str();
  train_unet->add_option("--rate", editor.rate, "peak learning rate")->capture_default_str();
  train_unet->add_option("--crops", editor.crops, "whole-picture crops kept in memory")->capture_default_str();
  train_unet->add_option("--channels", editor.channels, "channels of the UNet, finest resolution first")
      ->capture_default_str();
  train_unet->add_option("--unedited", editor.unedited, "unedited pairs for every 14 edits of a crop")
      ->capture_default_str();
  train_unet->add_option("--dtype", editor.compute, "precision to compute in: fp32, bf16 or auto")
      ->capture_default_str();
  auto* measure_model = shared(app.add_subcommand("evaluate", "measure a model on held-out photographs and phrasings"));
  measure_model->add_option("--model", evaluation.model, "model folder to measure")->required();
  measure_model->add_option("--report", evaluation.report, "folder for the score table and a sheet of pictures");
  measure_model->add_option("--steps", evaluation.steps, "number of sampling steps")->capture_default_str();
  measure_model->add_option("--phrasings", evaluation.phrasings, "held-out phrasings per edit")->capture_default_str();
  measure_model->add_option("--count", evaluation.photographs, "number of photographs, 0 for all held-out ones")
      ->capture_default_str();
  measure_model->add_option("--image-scale", evaluation.image_scale, "how closely to follow the photograph")
      ->capture_default_str();
  measure_model->add_option("--text-scale", evaluation.text_scale, "how closely to follow the instruction")
      ->capture_default_str();
  measure_model->add_option("--sampler", evaluation.sampler, "sampler")->capture_default_str();
  auto* pairs = shared(app.add_subcommand("pairs", "write computed edits as a training set of pairs"));
  pairs->add_option("--out", pairs_out, "folder in the published layout")->required();
  auto* edits = shared(app.add_subcommand("edits", "show the computed edits of the held-out photographs"));
  edits->add_option("--out", edits_out, "picture to write")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::signal(SIGTERM, [](int) { interrupted = 1; });
  std::signal(SIGINT, [](int) { interrupted = 1; });
  try {
    if (*train_codec || *train_unet) at::set_num_threads(1);  // the shards already run in parallel
    if (*train_codec) train_autoencoder(settings, autoencoder);
    if (*train_unet) train_editor(settings, editor);
    if (*measure_model) evaluate_model(settings, evaluation);
    if (*pairs) {
      const auto photographs = small_editor::split_photographs(settings.photographs).training;
      fmt::print("{} pairs: {}\n", write_pairs(photographs, pairs_out, settings.picture), pairs_out.string());
    }
    if (*edits) show_edits(settings, edits_out);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
