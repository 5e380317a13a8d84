// Small-scale versions of what the other programs take as given: scenes with captions, a CLIP, a
// text-to-image model, and measurements against answers that are known. paper_in_a_box.py runs the whole chain.
//
//   small_world scenes --vocabulary vocabulary.json --stamps stamps --photographs photographs --out scenes
//   small_world clip --scenes scenes --tokenizer models/clip-tokenizer --out clip
//   small_world text-to-image --scenes scenes --clip clip/clip --vae models/small-editor --out text-to-image

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/sealed_json.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "measure.hpp"
#include "scenes.hpp"
#include "support/command_line.hpp"
#include "support/contents.hpp"
#include "support/one_of.hpp"
#include "support/option_table.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"
#include "support/use_threads.hpp"
#include "training.hpp"
#include "vocabulary.hpp"
#include "write_scenes.hpp"

namespace {

using namespace small_world;

struct SceneOptions {
  fs::path vocabulary, stamps, photographs, out;
  Words most{};
  SceneCounts counts;
  std::int64_t side = 64;
  std::uint64_t seed = 0;
  example::OptionValues values;  ///< All options of the command, by name.
};

/// Empties a folder, but for the record in it, of what a run with these settings made before it was killed.
/// \throws Error if there is anything else in it
void begin_anew(const fs::path& out, const nlohmann::json& settings) {
  const auto left = ip2p::detail::read_sealed(out / "run.json");
  ip2p::require(fs::is_empty(out) || (left && left->value("settings", nlohmann::json()) == settings),
                "{}: expected a new folder, found files", out.string());
  for (const auto& entry : ip2p::detail::folder_entries(out)) {
    if (entry.path().filename() != "run.json") fs::remove_all(entry.path());
  }
}

int scenes(const SceneOptions& o, const example::Interrupt& interrupt) {
  ip2p::require(o.side % 8 == 0, "--resolution: expected a multiple of 8, found {}", o.side);
  const World world(Vocabulary(ip2p::detail::read_json_file(o.vocabulary), o.vocabulary.string(), o.most), o.stamps,
                    o.photographs, o.side);
  auto settings = example::settings_of(o.values, {});
  settings["--vocabulary"] = example::content_setting(o.vocabulary, example::file_digest(o.vocabulary));
  settings["--stamps"] = example::content_setting(o.stamps, example::files_digest(world.stamps()));
  settings["--photographs"] = example::content_setting(o.photographs, example::files_digest(world.photographs()));
  ip2p::make_folder(o.out);
  const ip2p::FolderLock lock(o.out);
  example::RunRecord record(o.out / "run.json", settings, [&] { return fs::exists(o.out / "world.json"); });
  record.agree();
  if (record.finished() == 1) {
    fmt::print("complete already: {}\n", o.out.string());
    return 0;
  }
  begin_anew(o.out, settings);
  record.begin(0);
  fmt::print("{} captions\n", world.vocabulary().count());
  write_scenes(world, o.out, o.counts, o.seed, interrupt);
  record.finish(1);
  fmt::print("{}\n", o.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  SceneOptions s;
  ClipSettings c;
  TextToImageSettings t;
  MeasureSettings m;
  CLI::App *drawing = nullptr, *clip = nullptr, *text_to_image = nullptr, *drawings = nullptr, *pairs = nullptr,
           *editor = nullptr;
  const auto add_options = [&](CLI::App& app) {
    app.footer(
        "Run the same command again to continue; other settings are refused unless you pass --change, where there is "
        "that option.");
    app.require_subcommand(1);
    const auto count = example::range(std::int64_t{1}, std::int64_t{100'000'000});

    drawing = app.add_subcommand("scenes", "write captioned pictures, pairs with known answers, and triplets");
    drawing->callback([&] { s.values = example::option_values(*drawing); });
    drawing->add_option("--vocabulary", s.vocabulary, "JSON file with the vocabulary")->type_name("FILE")->required();
    drawing->add_option("--stamps", s.stamps, "folder with the objects' pictures: PNG with an alpha channel")
        ->type_name("FOLDER")
        ->required();
    drawing->add_option("--photographs", s.photographs, "folder with the places' pictures")
        ->type_name("FOLDER")
        ->required();
    drawing->add_option("--out", s.out, "folder to write")->type_name("FOLDER")->required();
    auto* side = drawing->add_option("--resolution", s.side, "side of the pictures in pixels, a multiple of 8")
                     ->capture_default_str()
                     ->check(example::range(16, 1024));
    example::old_name(*drawing, side, "--side");
    drawing->add_option("--seed", s.seed, "random seed")->capture_default_str()->check(example::whole_number);
    for (std::size_t kind = 0; kind < kind_count; ++kind) {
      drawing
          ->add_option(fmt::format("--{}", kind_names[kind]), s.most[kind],
                       fmt::format("number of {} to use (default: all)", kind_names[kind]))
          ->check(count);
    }
    for (const auto& [name, before, number, help] :
         {std::tuple{"--picture-count", "--training", &s.counts.training, "number of captioned pictures"},
          std::tuple{"--held-out-picture-count", "--held-out", &s.counts.held_out,
                     "number of captioned pictures with held-out captions"},
          std::tuple{"--pair-count", "--pairs", &s.counts.pairs, "number of pairs with known answers, for training"},
          std::tuple{"--held-out-pair-count", "--held-out-pairs", &s.counts.held_out_pairs,
                     "number of pairs with known answers, for measurement"},
          std::tuple{"--triplet-count", "--triplets", &s.counts.triplets,
                     "number of triplets, for training a language model"},
          std::tuple{"--caption-count", "--captions", &s.counts.captions,
                     "number of captions to make triplets from"}}) {
      auto* option = drawing->add_option(name, *number, help)->capture_default_str()->check(count);
      example::old_name(*drawing, option, before);
    }

    const auto training = [&](CLI::App* command, TrainingSettings& o) {
      command->add_option("--scenes", o.scenes, "folder that `scenes` wrote")
          ->type_name("FOLDER")
          ->required()
          ->check(CLI::ExistingDirectory);
      command->add_option("--out", o.out, "folder to write")->type_name("FOLDER")->required();
      command->add_option("--steps", o.steps, "number of updates")->capture_default_str()->check(count);
      command->add_option("--batch", o.batch, "samples per update")->capture_default_str()->check(count);
      command->add_option("--rate", o.rate, "peak learning rate")
          ->capture_default_str()
          ->check(example::range(1e-9, 1.0));
      command->add_option("--seed", o.seed, "random seed")->capture_default_str()->check(example::whole_number);
      example::add_threads(*command, o.threads);
      example::add_change(*command, o.change);
      command->callback([command, &o] { o.values = example::option_values(*command); });
    };
    clip = app.add_subcommand("clip", "train a CLIP on the captioned pictures");
    training(clip, c);
    clip->add_option("--tokenizer", c.tokenizer, "folder with vocab.json and merges.txt")
        ->type_name("FOLDER")
        ->required();
    auto* width = clip->add_option("--hidden-size", c.width, "values per token in both towers")
                      ->capture_default_str()
                      ->check(count);
    example::old_name(*clip, width, "--width");
    clip->add_option("--patch", c.patch, "side of a patch in pixels")->capture_default_str()->check(count);
    clip->add_option("--text-layers", c.text_layers, "layers of the text tower")->capture_default_str()->check(count);
    clip->add_option("--vision-layers", c.vision_layers, "layers of the vision tower")
        ->capture_default_str()
        ->check(count);

    text_to_image = app.add_subcommand("text-to-image", "train a text-to-image model on the captioned pictures");
    training(text_to_image, t);
    text_to_image->add_option("--clip", t.clip, "CLIP whose text tower to start from")->type_name("FOLDER")->required();
    auto* vae =
        text_to_image->add_option("--vae", t.codec, "model whose autoencoder to use")->type_name("FOLDER")->required();
    example::old_name(*text_to_image, vae, "--codec");
    text_to_image->add_option("--channels", t.channels, "channels of the UNet, finest resolution first")
        ->capture_default_str()
        ->check(example::range(std::int64_t{4}, std::int64_t{4096}));
    text_to_image->add_option("--drop-text", t.drop_text, "share of samples that drop the text")
        ->capture_default_str()
        ->check(example::range(0.0, 1.0));

    const auto measuring = [&](const char* name, const char* help) {
      auto* command = app.add_subcommand(name, help);
      command->add_option("--scenes", m.scenes, "folder that `scenes` wrote")
          ->type_name("FOLDER")
          ->required()
          ->check(CLI::ExistingDirectory);
      command->add_option("--clip", m.clip, "CLIP folder to measure with")->type_name("FOLDER")->required();
      command->add_option("--out", m.out, "folder for report.json and sheet.png")->type_name("FOLDER")->required();
      auto* limit = command->add_option("--limit", m.count, "maximum number of pictures or pairs")
                        ->capture_default_str()
                        ->check(count);
      example::old_name(*command, limit, "--count");
      command->add_option("--seed", m.seed, "random seed")->capture_default_str()->check(example::whole_number);
      example::add_threads(*command, m.threads);
      example::add_change(*command, m.change);
      command->callback([command, &m] { m.values = example::option_values(*command); });
      return command;
    };
    const auto sampling = [&](CLI::App* command) {
      command->add_option("--model", m.model, "model folder to measure")->type_name("FOLDER")->required();
      command->add_option("--steps", m.steps, "number of sampling steps")->capture_default_str()->check(count);
      command->add_option("--text-scale", m.text_scale, "how closely to follow the text")
          ->capture_default_str()
          ->check(example::guidance_scale);
      command->add_option("--sampler", m.sampler, "method that removes the noise")
          ->capture_default_str()
          ->check(example::one_of(ip2p::AnySampler::names()));
    };
    drawings = measuring("measure-drawings", "draw captions and test whether CLIP matches pictures to captions");
    sampling(drawings);
    pairs = measuring("measure-pairs", "compare generated pairs with scenes of their captions");
    pairs->add_option("--pairs", m.pairs, "pairs in the published layout")->type_name("FOLDER")->required();
    editor = measuring("measure-editor", "compare edits with known answers");
    sampling(editor);
    editor->add_option("--pairs", m.pairs, "pairs in the published layout")->type_name("FOLDER")->required();
    editor->add_option("--image-scale", m.image_scale, "how closely to follow the picture")
        ->capture_default_str()
        ->check(example::guidance_scale);
  };
  return example::run_program(argc, argv, "small_world",
                              "Composes scenes of a small world, trains models on them, and measures the models.",
                              add_options, [&](const example::Interrupt& interrupt) {
                                const int threads = std::max({c.threads, t.threads, m.threads});
                                example::use_threads(threads);
                                if (*drawing) return scenes(s, interrupt);
                                if (*clip) return train_clip(c, interrupt);
                                if (*text_to_image) return train_text_to_image(t, interrupt);
                                if (*drawings) return measure_drawings(m, interrupt);
                                if (*pairs) return measure_pairs(m, interrupt);
                                return measure_editor(m, interrupt);
                              });
}
