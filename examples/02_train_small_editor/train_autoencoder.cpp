#include <ATen/ops/cat.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "autoencoder_loss.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "photographs.hpp"
#include "principal_start.hpp"
#include "support/loss_plot.hpp"
#include "support/output_folder.hpp"
#include "training.hpp"

namespace small_editor {

int train_autoencoder(const Settings& settings, const AutoencoderSettings& wanted,
                      const example::Interrupt& interrupt) {
  for (const auto& [option, blocks] :
       {std::pair{"--encoder-blocks", &wanted.encoder_blocks}, std::pair{"--decoder-blocks", &wanted.decoder_blocks}}) {
    ip2p::require(blocks->size() == wanted.channels.size(),
                  "{}: expected {} numbers, as many as --channels has, found {}", option, wanted.channels.size(),
                  blocks->size());
  }
  const auto coarsest = wanted.channels.empty() ? 0 : wanted.channels.back();
  ip2p::require(coarsest % wanted.latent_channels == 0,
                "--latent-channels: expected a divisor of {}, the last of --channels, found {}", coarsest,
                wanted.latent_channels);
  const example::OutputFolder folder(settings.work);
  const ip2p::FolderLock lock(settings.work, {"vae", "editor", "model"});
  auto record = run_record(settings, settings.work / "vae", {});
  record.agree(settings.change);
  if (record.finished() >= wanted.steps && std::filesystem::exists(settings.work / "model" / "vae")) {
    fmt::print("complete already, at step {}: {}\n", record.finished(), (settings.work / "model" / "vae").string());
    return 0;
  }
  const auto split = split_photographs(settings.photographs);
  auto photographs = load_all(split.training, 4 * settings.picture, interrupt);
  // Once more at the size of the pictures to edit, where detail is finest: half of the crops come from these.
  for (const auto& small : load_all(split.training, settings.picture, interrupt)) photographs.push_back(small);
  const auto held_out = at::stack(held_out_squares(settings, interrupt)) * 2 - 1;

  ip2p::DcAutoencoderConfig config;
  config.latent_channels = wanted.latent_channels;
  config.encoder_block_out_channels = config.decoder_block_out_channels = wanted.channels;
  config.encoder_layers_per_block = wanted.encoder_blocks;
  config.decoder_layers_per_block = wanted.decoder_blocks;
  ip2p::DcAutoencoder codec(config);
  const auto options = codec_training(settings, settings.work / "vae");
  AutoencoderLoss objective{codec, photographs, settings.seed};
  objective.crops = wanted.batch;
  objective.side = wanted.side;
  objective.picture = settings.picture;
  objective.precision = ip2p::parse_dtype(wanted.compute, at::kCPU);
  start_at_principal_blocks(codec, objective.sample(64), settings.seed);
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
  fmt::print("{:.2f} M parameters\n", static_cast<double>(run.parameters().elements()) / 1e6);
  if (run.step() == 0) measure();
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
  const auto latents = codec.encode(objective.sample(160));
  const auto mean = latents.mean().item<double>();
  config.scaling_factor = 1.0 / latents.std().item<double>();
  ip2p::DcAutoencoder scaled(config);
  ip2p::copy_weights(codec.module(), scaled.module());
  ip2p::save_component(scaled, settings.work / "model");
  record.finish(run.step());
  fmt::print("latents: mean {:.3f}, scaling factor {:.4f}; wrote {}\n", mean, config.scaling_factor,
             (settings.work / "model" / "vae").string());
  return 0;
}

}  // namespace small_editor
