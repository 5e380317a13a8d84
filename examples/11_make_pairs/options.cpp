#include "options.hpp"

#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "support/contents.hpp"
#include "support/option_table.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"

namespace make_pairs {

nlohmann::json Options::settings() const {
  nlohmann::json json{{"--samples", samples},
                      {"--steps", steps},
                      {"--resolution", side},
                      {"--keep-pairs", keep},
                      {"--seed", seed},
                      {"--schedule", schedule.empty() ? "log-linear" : schedule},
                      {"--noise", noise},
                      {"--no-self-replacement", no_self_replacement},
                      {"--text-scale-from", text_scale_from},
                      {"--text-scale-to", text_scale_to},
                      {"--no-filter", no_filter}};
  for (const auto& [option, files] : {std::pair{"--lora", &model.loras}, std::pair{"--embedding", &model.embeddings}}) {
    for (const auto& file : *files) {
      json[option].push_back(example::content_setting(file, example::addition_digest(file)));
    }
  }
  if (no_filter) return json;
  json["--least-image"] = least_image();
  json["--least-caption"] = caption;
  json["--least-direction"] = direction;
  json["--least-change"] = least_change();
  return json;
}

void add_options(CLI::App& app, Options& o) {
  app.footer(
      "Processes with the same --out share its prompts, wherever they run: under torchrun, Slurm or by hand. Each may "
      "stop at any time. Run the same command again to continue; other settings are refused unless you pass --change.");
  const auto count = example::range(std::int64_t{1}, std::int64_t{1'000'000});
  app.add_option("--triplets", o.triplets, "triplets to draw, as JSON lines of caption, instruction and edited caption")
      ->type_name("FILE")
      ->required();
  app.add_option("--clip", o.clip, "CLIP to judge pairs with: a folder, an OpenCLIP checkpoint or a name on the Hub")
      ->type_name("MODEL")
      ->required();
  app.add_option("--out", o.out, "folder for the set, in the published layout; created if missing")
      ->type_name("FOLDER")
      ->required();
  app.add_option("--samples", o.samples, "pairs to draw per prompt")->capture_default_str()->check(count);
  auto* keep =
      app.add_option("--keep-pairs", o.keep, "maximum pairs to keep per prompt")->capture_default_str()->check(count);
  example::old_name(app, keep, "--keep");
  app.add_option("--steps", o.steps, "number of sampling steps")->capture_default_str()->check(count);
  auto* side = app.add_option("--resolution", o.side, "side of the pictures in pixels, a multiple of 8")
                   ->capture_default_str()
                   ->check(example::range(8, 4096));
  example::old_name(app, side, "--side");
  app.add_option("--batch", o.batch, "pairs to draw at once")->capture_default_str()->check(count);
  for (const auto& [name, number, help] :
       {std::tuple{"--text-scale-from", &o.text_scale_from, "lowest text scale of a pair"},
        std::tuple{"--text-scale-to", &o.text_scale_to, "highest text scale; each pair draws its own"}}) {
    app.add_option(name, *number, help)->capture_default_str()->check(example::guidance_scale);
  }
  app.add_flag("--no-self-replacement", o.no_self_replacement, "do not share self-attention, only noise");
  auto* none =
      app.add_flag("--no-filter", o.no_filter, "keep the first pairs unfiltered; CLIP's scores are still recorded");
  std::vector<CLI::Option*> filters{
      app.add_option(
             "--preset", o.preset,
             "minimum image similarity: .75 as in the paper, or .7 without the pixel test as in the released program")
          ->capture_default_str()
          ->check(CLI::IsMember({"paper", "released"}))};
  filters.push_back(
      app.add_option("--least-image", o.image, "minimum similarity of the two pictures, instead of the preset's")
          ->check(example::range(-1.0, 1.0)));
  for (const auto& [name, number, help] :
       {std::tuple{"--least-caption", &o.caption, "minimum similarity of each picture to its caption"},
        std::tuple{"--least-direction", &o.direction, "minimum directional similarity"}}) {
    filters.push_back(app.add_option(name, *number, help)->capture_default_str()->check(example::range(-1.0, 1.0)));
  }
  filters.push_back(
      app.add_option(
             "--least-change", o.pixel_change,
             "minimum mean difference of the pictures, in levels of 255 (default: 0.1, or 0 with --preset released)")
          ->check(example::range(0.0, 255.0)));
  for (auto* filter : filters) filter->excludes(none);
  app.add_option("--sheets", o.sheets,
                 "folder for pages with all pairs of a prompt, kept and dropped, and their scores")
      ->type_name("FOLDER");
  app.add_option("--sheet-every", o.sheet_every, "write a page for every Nth prompt")
      ->capture_default_str()
      ->check(count);
  example::add_schedule(app, o.schedule, "log-linear");
  example::add_noise(app, o.noise);
  app.add_option("--seed", o.seed, "random seed")->capture_default_str()->check(example::whole_number);
  app.add_option("--lease", o.lease, "seconds of silence after which a process counts as dead")
      ->capture_default_str()
      ->check(example::range(0.1, 86400.0));
  app.add_option("--patience", o.patience,
                 "seconds without a step after which a live process counts as hanging and another may take over its "
                 "prompt; 0: never")
      ->capture_default_str()
      ->check(example::range(0.0, 604800.0));
  example::add_change(app, o.change);
  example::add_model(app, o.model);
}

}  // namespace make_pairs
