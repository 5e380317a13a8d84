// Trains a small autoencoder and an instruction-following editor on photographs and computed edits, measures them on
// held-out photographs and phrasings, and writes a model folder that the other programs open.

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "edits.hpp"
#include "evaluation.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "photographs.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/run_record.hpp"
#include "training.hpp"
#include "write_pairs.hpp"

namespace {

namespace fs = std::filesystem;
using namespace small_editor;

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

void evaluate_model(const Settings& settings, const EvaluationSettings& wanted) {
  std::optional<example::OutputFolder> report;
  if (!wanted.report.empty()) report.emplace(wanted.report);
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
  Settings settings;
  AutoencoderSettings autoencoder;
  EditorSettings editor;
  EvaluationSettings evaluation;
  fs::path edits_out = "edits.png";
  fs::path pairs_out;
  CLI::App *train_codec = nullptr, *train_unet = nullptr, *measure_model = nullptr, *pairs = nullptr, *edits = nullptr;
  const auto add_options = [&](CLI::App& app) {
    app.footer("Exit status: 0 success, or stopped with everything saved; 1 error; 2 wrong usage.");
    app.require_subcommand(1);
    const auto shared = [&](CLI::App* command) {
      command->add_option("--photographs", settings.photographs, "folder made by scripts/photographs.sh")->required();
      command->add_option("--work", settings.work, "folder for checkpoints and the model")->capture_default_str();
      command->add_option("--resolution", settings.picture, "side of the pictures in pixels")->capture_default_str();
      command->add_option("--threads", settings.shards, "threads that share each update")->capture_default_str();
      command->add_option("--seed", settings.seed, "random seed")->capture_default_str();
      return command;
    };
    train_codec = shared(app.add_subcommand("autoencoder", "train the autoencoder"));
    train_codec->add_option("--steps", autoencoder.steps, "number of updates")->capture_default_str();
    train_codec->add_option("--rate", autoencoder.rate, "peak learning rate")->capture_default_str();
    train_codec->add_option("--batch", autoencoder.crops, "64-pixel crops per update")->capture_default_str();
    train_codec->add_option("--channels", autoencoder.channels, "channels of the autoencoder, finest resolution first")
        ->capture_default_str();
    example::add_change(*train_codec, settings.change);
    train_codec->callback([&] { settings.values = example::option_values(*train_codec); });
    train_unet = shared(app.add_subcommand("editor", "train the text encoder and the UNet"));
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
    example::add_change(*train_unet, settings.change);
    train_unet->callback([&] { settings.values = example::option_values(*train_unet); });
    measure_model = shared(app.add_subcommand("evaluate", "measure a model on held-out photographs and phrasings"));
    measure_model->add_option("--model", evaluation.model, "model folder to measure")->required();
    measure_model->add_option("--report", evaluation.report, "folder for the score table and a sheet of pictures");
    measure_model->add_option("--steps", evaluation.steps, "number of sampling steps")->capture_default_str();
    measure_model->add_option("--phrasings", evaluation.phrasings, "held-out phrasings per edit")
        ->capture_default_str();
    measure_model->add_option("--count", evaluation.photographs, "number of photographs, 0 for all held-out ones")
        ->capture_default_str();
    measure_model->add_option("--image-scale", evaluation.image_scale, "how closely to follow the photograph")
        ->capture_default_str();
    measure_model->add_option("--text-scale", evaluation.text_scale, "how closely to follow the instruction")
        ->capture_default_str();
    measure_model->add_option("--sampler", evaluation.sampler, "sampler")->capture_default_str();
    pairs = shared(app.add_subcommand("pairs", "write computed edits as a training set of pairs"));
    pairs->add_option("--out", pairs_out, "folder in the published layout")->required();
    edits = shared(app.add_subcommand("edits", "show the computed edits of the held-out photographs"));
    edits->add_option("--out", edits_out, "picture to write")->capture_default_str();
  };
  return example::run_program(argc, argv, "train_small_editor", "Trains, measures and writes the small editor.",
                              add_options, [&](const example::Interrupt& interrupt) {
                                if (*train_codec || *train_unet)
                                  at::set_num_threads(1);  // the shards already run in parallel
                                if (*train_codec) train_autoencoder(settings, autoencoder, interrupt);
                                if (*train_unet) train_editor(settings, editor, interrupt);
                                if (*measure_model) evaluate_model(settings, evaluation);
                                if (*pairs) {
                                  const example::OutputFolder folder(pairs_out);
                                  const auto photographs = split_photographs(settings.photographs).training;
                                  fmt::print("{} pairs: {}\n", write_pairs(photographs, pairs_out, settings.picture),
                                             pairs_out.string());
                                }
                                if (*edits) show_edits(settings, edits_out);
                                return 0;
                              });
}
