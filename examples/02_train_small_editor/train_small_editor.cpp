// Trains a small autoencoder and an instruction-following editor on photographs and computed edits, measures them on
// held-out photographs and phrasings, and writes a model folder that the other programs open.

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "edits.hpp"
#include "evaluation.hpp"
#include "full_size_evaluation.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "photographs.hpp"
#include "support/command_line.hpp"
#include "support/one_of.hpp"
#include "support/option_table.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"
#include "support/run_record.hpp"
#include "training.hpp"
#include "write_pairs.hpp"

namespace {

namespace fs = std::filesystem;
using namespace small_editor;

struct EvaluationSettings {
  fs::path model;
  fs::path report;
  ip2p::RunSettings run{.steps = 20};
  std::int64_t phrasings = 3;
  std::int64_t variations = 4;
  std::vector<std::string> families;
  std::int64_t photographs = 0;
  std::int64_t full_size = 0;
  double image_scale = 1.0;
  double text_scale = 1.0;
  std::string sampler = "euler";
};

/// The held-out photographs of at least so many megapixels. \throws ip2p::Error if there are none
std::vector<fs::path> large_photographs(const Settings& settings, std::int64_t megapixels) {
  std::vector<fs::path> large;
  for (const auto& path : split_photographs(settings.photographs).held_out) {
    const auto photo = ip2p::read_image(path);
    if (photo.width * photo.height >= megapixels * 1'000'000) large.push_back(path);
  }
  ip2p::require(!large.empty(), "--full-size: expected a held-out photograph of at least {} megapixels, found none",
                megapixels);
  return large;
}

int evaluate_model(const Settings& settings, const EvaluationSettings& wanted, const example::Interrupt& interrupt) {
  std::optional<example::OutputFolder> report;
  if (!wanted.report.empty()) report.emplace(wanted.report);
  auto pipeline = ip2p::open_editor(wanted.model, {.device = at::kCPU, .dtype = at::kFloat});
  pipeline.sampler = ip2p::AnySampler::named(wanted.sampler);
  pipeline.guidance = {.image_scale = wanted.image_scale, .text_scale = wanted.text_scale};
  const auto large = wanted.full_size > 0 ? large_photographs(settings, wanted.full_size) : std::vector<fs::path>();
  const auto squares = held_out_squares(settings, interrupt, static_cast<std::size_t>(wanted.photographs));
  auto run = wanted.run;
  run.hooks.stop = interrupt.token();
  const auto scores = [&] {
    example::ProgressBar bar(stderr, "edits of photograph and phrasing");
    EvaluationOptions options{.phrasings = wanted.phrasings, .variations = wanted.variations};
    options.families = wanted.families;
    options.on_part = [&](std::int64_t done, std::int64_t all) { bar({.index = done - 1, .count = all}); };
    return evaluate(pipeline, squares, run, options);
  }();
  interrupt.check();
  auto text = table(scores);
  if (!large.empty()) {
    example::ProgressBar bar(stderr, "edits at full size");
    const auto at_full_size =
        evaluate_full_size(pipeline, large, run, chosen_families(wanted.families),
                           [&](std::int64_t done, std::int64_t all) { bar({.index = done - 1, .count = all}); });
    text += fmt::format("\nAt the own size of the {} photographs of at least {} megapixels:\n\n{}", large.size(),
                        wanted.full_size, table(at_full_size));
  }
  interrupt.check();
  example::result_follows();
  fmt::print("the middle squares of {} photographs at {} pixels, {} steps, {}, image scale {}, text scale {}\n\n{}",
             squares.size(), settings.picture, *run.steps, wanted.sampler, wanted.image_scale, wanted.text_scale, text);
  if (wanted.report.empty()) return 0;
  ip2p::write_file_atomically(wanted.report / "scores.md", std::as_bytes(std::span(text)));
  write_sheet(wanted.report / "sheet.png", scores.sheet);
  return 0;
}

/// One row per photograph: the photograph, then all edits.
int show_edits(const Settings& settings, const fs::path& out, const example::Interrupt& interrupt) {
  example::check_folders({&out});
  std::vector<at::Tensor> rows;
  for (const auto& square : held_out_squares(settings, interrupt)) {
    interrupt.check();
    std::vector<at::Tensor> row{square};
    for (const auto& family : edit_families()) row.push_back(family.apply(square));
    rows.push_back(at::cat(row, 2));
  }
  interrupt.check();
  write_sheet(out, (at::cat(rows, 1) * 255).round().to(at::kByte));
  fmt::print("{}\n", out.string());
  return 0;
}

int write_set(const Settings& settings, const fs::path& out, const example::Interrupt& interrupt) {
  const example::OutputFolder folder(out);
  const ip2p::FolderLock lock(out);
  const auto photographs = split_photographs(settings.photographs).training;
  example::ProgressBar bar(stderr, "photograph");
  const auto count = write_pairs(photographs, out, settings.picture, interrupt,
                                 [&](std::int64_t done, std::int64_t all) { bar({.index = done - 1, .count = all}); });
  fmt::print("{} pairs: {}\n", count, out.string());
  return 0;
}

/// The subcommands; all but the chosen one are false.
struct Commands {
  Settings settings;
  AutoencoderSettings autoencoder;
  EditorSettings editor;
  DecoderSettings decoder;
  EvaluationSettings evaluation;
  fs::path edits_out = "edits.png", pairs_out;
  CLI::App *train_codec = nullptr, *train_unet = nullptr, *fit_decoder = nullptr, *measure_model = nullptr,
           *pairs = nullptr, *edits = nullptr;
};

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const auto& family : edit_families()) names.emplace_back(family.name);
  return names;
}

void add_options(CLI::App& app, Commands& c) {
  app.footer("Run the same command again to continue an interrupted training.");
  app.require_subcommand(1);
  const auto count = [](std::int64_t least) { return example::range(least, std::int64_t{100'000'000}); };
  const auto photographs = [&](CLI::App* command) {
    command->add_option("--photographs", c.settings.photographs, "folder made by scripts/photographs.sh")
        ->type_name("FOLDER")
        ->required();
    command->add_option("--resolution", c.settings.picture, "side of the pictures in pixels")
        ->capture_default_str()
        ->check(example::range(16, 4096));
    return command;
  };
  const auto training = [&](CLI::App* command) {
    auto* out = command->add_option("--out", c.settings.work, "folder for checkpoints and the model")
                    ->type_name("FOLDER")
                    ->capture_default_str();
    example::old_name(*command, out, "--work");
    command->add_option("--threads", c.settings.shards, "threads that share each update")
        ->capture_default_str()
        ->check(example::range(1, 1024));
    command->add_option("--seed", c.settings.seed, "random seed")->capture_default_str()->check(example::whole_number);
    example::add_change(*command, c.settings.change);
    command->callback([&c, command] { c.settings.values = example::option_values(*command); });
    return command;
  };
  const auto learning = [&](CLI::App* command, LearningSettings& o, const char* samples) {
    command->add_option("--steps", o.steps, "number of updates")->capture_default_str()->check(count(1));
    command->add_option("--rate", o.rate, "peak learning rate")
        ->capture_default_str()
        ->check(example::range(1e-9, 1.0));
    command->add_option("--batch", o.batch, fmt::format("{} per update", samples))
        ->capture_default_str()
        ->check(count(1));
    example::add_dtype(*command, o.compute);
  };
  const auto channels = [&](CLI::App* command, std::vector<std::int64_t>& o, const char* network) {
    command->add_option("--channels", o, fmt::format("channels of the {}, finest resolution first", network))
        ->capture_default_str()
        ->check(example::range(4, 4096));
  };

  auto* codec = c.train_codec = training(photographs(app.add_subcommand("autoencoder", "train the autoencoder")));
  learning(codec, c.autoencoder, "crops");
  channels(codec, c.autoencoder.channels, "autoencoder");
  codec->add_option("--latent-channels", c.autoencoder.latent_channels, "channels of the latents")
      ->capture_default_str()
      ->check(example::range(1, 4096));
  codec->add_option("--side", c.autoencoder.side, "side of the crops in pixels, a multiple of 8")
      ->capture_default_str()
      ->check(example::range(8, 4096));
  for (const auto& [name, blocks, path] : {std::tuple{"--encoder-blocks", &c.autoencoder.encoder_blocks, "encoder"},
                                           std::tuple{"--decoder-blocks", &c.autoencoder.decoder_blocks, "decoder"}}) {
    codec->add_option(name, *blocks, fmt::format("residual blocks of the {}, finest resolution first", path))
        ->capture_default_str()
        ->check(example::range(0, 1000));
  }

  auto* unet = c.train_unet =
      training(photographs(app.add_subcommand("editor", "train the text encoder and the UNet")));
  unet->add_option("--tokenizer", c.editor.tokenizer, "folder with vocab.json and merges.txt")
      ->type_name("MODEL")
      ->capture_default_str();
  learning(unet, c.editor, "whole pictures");
  channels(unet, c.editor.channels, "UNet");
  unet->add_option("--coarse-steps", c.editor.coarse_steps,
                   "how many of the updates use small crops, in larger batches")
      ->capture_default_str()
      ->check(count(0));
  unet->add_option("--coarse-side", c.editor.coarse_side, "side of the small crops in pixels, a multiple of 8")
      ->capture_default_str()
      ->check(example::range(8, 4096));
  unet->add_option("--crops", c.editor.crops, "whole-picture crops kept in memory")
      ->capture_default_str()
      ->check(count(1));
  unet->add_option("--varied", c.editor.varied, "edits per crop that are varied in strength, place or number")
      ->capture_default_str()
      ->check(count(0));
  unet->add_option("--unedited", c.editor.unedited, "unedited pairs per crop")->capture_default_str()->check(count(0));
  unet->add_option("--start", c.editor.start, "model folder of an editor to start from; its autoencoder may differ")
      ->type_name("MODEL");

  auto* decoder = c.fit_decoder =
      training(photographs(app.add_subcommand("decoder", "fit the autoencoder's decoder to the editor's results")));
  decoder->add_option("--model", c.decoder.model, "model folder of the editor")->type_name("MODEL")->required();
  learning(decoder, c.decoder, "windows of results");
  decoder->add_option("--side", c.decoder.side, "side of the windows in pixels, a multiple of 8")
      ->capture_default_str()
      ->check(example::range(8, 4096));
  decoder->add_option("--crops", c.decoder.crops, "whole-picture crops whose results are kept in memory")
      ->capture_default_str()
      ->check(count(1));
  decoder
      ->add_option("--sharpness", c.decoder.sharpness,
                   "weight of the detail that results lack, beside that of their error")
      ->capture_default_str()
      ->check(example::range(0.0, 1000.0));

  auto* measuring = c.measure_model =
      photographs(app.add_subcommand("evaluate", "measure a model on held-out photographs and phrasings"));
  measuring->add_option("--model", c.evaluation.model, "model folder to measure")->type_name("MODEL")->required();
  auto* report =
      measuring->add_option("--out", c.evaluation.report, "folder for the score table and a sheet of pictures")
          ->type_name("FOLDER");
  example::old_name(*measuring, report, "--report");
  measuring->add_option("--steps", c.evaluation.run.steps, "number of sampling steps")
      ->default_str("20")
      ->check(example::range(1, 10000));
  measuring->add_option("--seed", c.evaluation.run.seed, "random seed for the noise")
      ->capture_default_str()
      ->check(example::whole_number);
  measuring->add_option("--phrasings", c.evaluation.phrasings, "held-out phrasings per edit")
      ->capture_default_str()
      ->check(count(1));
  measuring->add_option("--variations", c.evaluation.variations, "varied edits of each kind per photograph")
      ->capture_default_str()
      ->check(count(0));
  measuring->add_option("--families", c.evaluation.families, "names of the edits to measure; none: all of them")
      ->check(example::one_of(family_names()));
  measuring
      ->add_option("--full-size", c.evaluation.full_size,
                   "also measure results at the size of photographs with at least this many megapixels; 0: do not")
      ->capture_default_str()
      ->check(count(0));
  auto* limit = measuring->add_option("--limit", c.evaluation.photographs, "maximum number of photographs, 0 for all")
                    ->capture_default_str()
                    ->check(count(0));
  example::old_name(*measuring, limit, "--count");
  for (const auto& [name, scale, help] :
       {std::tuple{"--image-scale", &c.evaluation.image_scale, "how closely to follow the photograph"},
        std::tuple{"--text-scale", &c.evaluation.text_scale, "how closely to follow the instruction"}}) {
    measuring->add_option(name, *scale, help)->capture_default_str()->check(example::guidance_scale);
  }
  measuring->add_option("--sampler", c.evaluation.sampler, "method that removes the noise")
      ->capture_default_str()
      ->check(example::one_of(ip2p::AnySampler::names()));

  c.pairs = photographs(app.add_subcommand("pairs", "write computed edits as a training set of pairs"));
  c.pairs->add_option("--out", c.pairs_out, "folder in the published layout")->type_name("FOLDER")->required();
  c.edits = photographs(app.add_subcommand("edits", "show the computed edits of the held-out photographs"));
  c.edits->add_option("--out", c.edits_out, "picture to write")
      ->type_name("FILE")
      ->capture_default_str()
      ->check(example::picture_name);
}

}  // namespace

int main(int argc, char** argv) {
  Commands c;
  return example::run_program(
      argc, argv, "train_small_editor", "Trains, measures and writes the small editor.",
      [&](CLI::App& app) { add_options(app, c); },
      [&](const example::Interrupt& interrupt) {
        if (*c.train_codec || *c.train_unet || *c.fit_decoder)
          at::set_num_threads(1);  // the shards already run in parallel
        if (*c.train_codec) return train_autoencoder(c.settings, c.autoencoder, interrupt);
        if (*c.train_unet) return train_editor(c.settings, c.editor, interrupt);
        if (*c.fit_decoder) return train_decoder(c.settings, c.decoder, interrupt);
        if (*c.measure_model) return evaluate_model(c.settings, c.evaluation, interrupt);
        if (*c.pairs) return write_set(c.settings, c.pairs_out, interrupt);
        return show_edits(c.settings, c.edits_out, interrupt);
      });
}
