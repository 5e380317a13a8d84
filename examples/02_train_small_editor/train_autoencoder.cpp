#include <ATen/ops/cat.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "autoencoder_loss.hpp"
#include "averaging_start.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "photographs.hpp"
#include "support/folder_lock.hpp"
#include "support/loss_plot.hpp"
#include "support/output_folder.hpp"
#include "training.hpp"

namespace small_editor {

int train_autoencoder(const Settings& settings, const AutoencoderSettings& wanted,
                      const example::Interrupt& interrupt) {
  const example::OutputFolder folder(settings.work);
  const example::FolderLock lock(settings.work);
  auto record = run_record(settings, settings.work / "vae", {});
  record.agree(settings.change);
  if (record.finished() >= wanted.steps && std::filesystem::exists(settings.work / "model" / "vae")) {
    fmt::print("complete already, at step {}: {}\n", record.finished(), (settings.work / "model" / "vae").string());
    return 0;
  }
  const auto split = split_photographs(settings.photographs);
  const auto photographs = load_all(split.training, 4 * settings.picture, interrupt);
  const auto held_out = at::stack(held_out_squares(settings, interrupt)) * 2 - 1;

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
  objective.pixels = wanted.batch * 64 * 64;
  objective.picture = settings.picture;
  ip2p::Trainer run(ip2p::Parameters().add(codec), objective, ip2p::WarmupCosine{wanted.rate, 100, wanted.steps, 0.05},
                    options);
  std::vector<std::string> skipped;
  const bool resumed = run.resume(&skipped);
  report_resumption(resumed, run.step(), skipped);
  record.begin(run.step());

  const auto measure = [&] {
    const at::NoGradGuard no_grad;
    at::Tensor decoded;
    run.with_average([&] { decoded = codec.decode(codec.encode(held_out)).clamp(-1, 1); });
    const auto errors = (decoded - held_out).square().mean({1, 2, 3});
    fmt::print("held-out photographs: round trip {:.2f} dB\n", (10 * at::log10(4.0 / errors)).mean().item<double>());
    const auto sheet = at::cat({at::cat(held_out.unbind(0), 2), at::cat(decoded.unbind(0), 2)}, 1);
    write_sheet(options.folder / "sheet.png", ((sheet + 1) * 127.5).round().to(at::kByte));
  };
  Report report(run.step(), wanted.steps);
  const bool complete = run.run(
      wanted.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (progress.step % 500 == 0) measure();
      },
      interrupt.token());
  example::plot_loss(options.folder / "loss.png", run.curve().points());
  if (!complete) return stopped(run.step());

  // The scaling factor that makes latents of training pictures, edited and not, unit variance.
  run.swap_average();
  const at::NoGradGuard no_grad;
  double square = 0.0;
  double mean = 0.0;
  constexpr std::int64_t batches = 40;
  for (std::int64_t i = 0; i < batches; ++i) {
    interrupt.check();
    const auto latents = codec.encode(objective.batch(i, 0, 1));
    square += latents.square().mean().item<double>() / batches;
    mean += latents.mean().item<double>() / batches;
  }
  config.scaling_factor = 1.0 / std::sqrt(square - mean * mean);
  ip2p::KlAutoencoder scaled(config);
  ip2p::copy_weights(codec.module(), scaled.module());
  ip2p::save_component(scaled, settings.work / "model");
  record.finish(run.step());
  fmt::print("latents: mean {:.3f}, scaling factor {:.4f}; wrote {}\n", mean, config.scaling_factor,
             (settings.work / "model" / "vae").string());
  return 0;
}

}  // namespace small_editor
