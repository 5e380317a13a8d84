#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "decoder_loss.hpp"
#include "editor_results.hpp"
#include "evaluation.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/io/copy_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/unet.hpp"
#include "photographs.hpp"
#include "support/command_line.hpp"
#include "support/loss_plot.hpp"
#include "support/output_folder.hpp"
#include "training.hpp"

namespace small_editor {
namespace {

namespace fs = std::filesystem;

/// Writes `codec` and copies of the other parts of `model` to `folder`. model_index.json is written last, so a folder
/// that has it is complete. \throws ip2p::Error naming the file that cannot be read or written
void write_beside_parts(const fs::path& model, const fs::path& folder, const ip2p::DcAutoencoder& codec) {
  std::error_code ignored;
  fs::remove(folder / "model_index.json", ignored);
  ip2p::save_component(codec, folder);
  for (const auto* part : {"unet", "text_encoder", "scheduler", "tokenizer"}) {
    ip2p::make_folder(folder / part);
    for (const auto& entry : ip2p::detail::folder_entries(model / part)) {
      ip2p::copy_file_atomically(entry.path(), folder / part / entry.path().filename());
    }
  }
  ip2p::copy_file_atomically(model / "model_index.json", folder / "model_index.json");
}

}  // namespace

int train_decoder(const Settings& settings, const DecoderSettings& wanted, const example::Interrupt& interrupt) {
  const auto files = ip2p::ModelFiles::open(wanted.model);
  ip2p::require(!example::same_file(wanted.model, settings.work / "model"),
                "--out: expected a folder other than that of --model, found '{}'", settings.work.string());
  const example::OutputFolder folder(settings.work);
  const ip2p::FolderLock lock(settings.work, {"decoder", "model"});
  auto record = run_record(settings, settings.work / "decoder", {{"--model", wanted.model}});
  record.agree(settings.change);
  if (record.finished() >= wanted.steps && fs::exists(settings.work / "model" / "model_index.json")) {
    fmt::print("complete already, at step {}: {}\n", record.finished(), (settings.work / "model").string());
    return 0;
  }
  const auto codec = ip2p::load<ip2p::DcAutoencoder>(files, {.inference = false});
  const ip2p::ClipTextEncoder encoder(ip2p::BpeTokenizer::open(wanted.model / "tokenizer"),
                                      ip2p::load<ip2p::ClipTextModel>(files));
  const ip2p::EditPipeline pipeline{
      encoder,
      codec,
      ip2p::load<ip2p::UNet>(files),
      ip2p::diffusion_of(ip2p::SchedulerConfig{.prediction = ip2p::PredictionType::sample}),
      ip2p::Euler{},
      ip2p::DualGuidance{1.0, 1.0}};
  const auto photographs = load_all(split_photographs(settings.photographs).training, 4 * settings.picture, interrupt);
  const auto squares = held_out_squares(settings, interrupt, 4);

  EditorResultsOptions kept{.picture = settings.picture, .crops = wanted.crops, .seed = settings.seed};
  EditorResults results(pipeline, photographs, kept);
  DecoderLoss objective{codec, results, settings.seed};
  objective.windows = wanted.batch;
  objective.side = wanted.side;
  objective.sharpness = wanted.sharpness;
  objective.precision = ip2p::parse_dtype(wanted.compute, at::kCPU);

  const auto options = codec_training(settings, settings.work / "decoder");
  ip2p::Trainer run(ip2p::Parameters().add(*codec.module().decoder, "vae.decoder"), objective,
                    ip2p::WarmupCosine{wanted.rate, 100, wanted.steps, 0.05}, options);
  std::vector<std::string> skipped;
  const bool resumed = run.resume(&skipped);
  report_resumption(resumed, run.step(), skipped);
  record.begin(run.step());
  fmt::print("{:.2f} M parameters\n", static_cast<double>(run.parameters().elements()) / 1e6);

  const auto measure = [&](std::int64_t step) {
    std::optional<Scores> scores;
    run.with_average([&] {
      scores = evaluate_in_training(pipeline, squares, {.steps = 2, .seed = 1, .hooks = {.stop = interrupt.token()}});
    });
    if (!scores) return;
    const auto total = scores->total();
    fmt::print(
        "step {}: right edit {} of {}, {:.2f} dB to target, sharpness {:.2f}, empty {:.2f} dB, round trip "
        "{:.2f} dB\n",
        step, total.nearest, total.edits, total.psnr_edit, total.sharpness, scores->psnr_empty_photo,
        scores->psnr_round_trip);
    std::fflush(stdout);
    write_sheet(options.folder / "sheet.png", scores->sheet);
  };
  if (run.step() == 0) measure(0);
  Report report(run.step(), wanted.steps);
  const bool complete = run.run(
      wanted.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (progress.step % 500 == 0) measure(progress.step);
      },
      interrupt.token());
  example::plot_loss(options.folder / "loss.png", run.curve().points());
  if (!complete) return stopped(run.step());
  run.swap_average();
  write_beside_parts(wanted.model, settings.work / "model", codec);
  record.finish(run.step());
  fmt::print("complete at step {}: wrote {}\n", run.step(), (settings.work / "model").string());
  return 0;
}

}  // namespace small_editor
