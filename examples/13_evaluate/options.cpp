#include "options.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/error.hpp"
#include "support/command_line.hpp"
#include "support/hub.hpp"
#include "support/named.hpp"
#include "support/option_table.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"

namespace evaluate {
namespace {

std::string named_path(const std::string& text) {
  const auto name = example::leading_name(text);
  return !name.empty() && name.size() + 1 < text.size()
             ? std::string()
             : fmt::format("expected NAME=PATH with a name of letters, digits and -_., found '{}'", text);
}

/// Whose part a value is, and the part. \param models that there are
std::pair<std::string, std::string> part_of(const std::string& text, const std::vector<Named>& models,
                                            const char* option) {
  const auto name = example::leading_name(text);
  if (name.empty() && models.size() == 1) return {models.front().name, text};
  std::vector<std::string> names;
  for (const auto& model : models) names.push_back(model.name);
  ip2p::require(std::ranges::find(names, name) != names.end(),
                "{}: expected the name of a model, one of {}, before '=' and the file, found '{}'", option,
                fmt::join(names, ", "), text);
  return {name, text.substr(name.size() + 1)};
}

}  // namespace

std::vector<Named> named_paths(const std::vector<std::string>& texts, const char* option) {
  std::vector<Named> all;
  for (const auto& text : texts) {
    const auto equal = text.find('=');
    const auto name = text.substr(0, equal);
    for (const auto& other : all) ip2p::require(other.name != name, "{}: expected the name {} once", option, name);
    all.push_back({name, text.substr(equal + 1)});
  }
  return all;
}

std::map<std::string, example::ModelOptions> models_of(const Options& o) {
  const auto models = named_paths(o.models, "--model");
  std::map<std::string, example::ModelOptions> all;
  for (const auto& [name, path] : models) {
    auto& one = all[name] = o.every;
    one.model = path;
    one.loras.clear();
    one.embeddings.clear();
  }
  for (const auto& lora : o.every.loras) {
    const auto [name, file] = part_of(lora, models, "--lora");
    all.at(name).loras.push_back(file);
  }
  for (const auto& embedding : o.every.embeddings) {
    const auto [name, file] = part_of(embedding, models, "--embedding");
    all.at(name).embeddings.push_back(file);
  }
  for (const auto& vae : o.vaes) {
    const auto [name, path] = part_of(vae, models, "--vae");
    ip2p::require(all.at(name).vae.empty(), "--vae: expected one autoencoder for the model {}, found two", name);
    all.at(name).vae = path;
  }
  return all;
}

void add_options(CLI::App& app, Options& o) {
  app.footer(
      "Methods: instruct, sdedit, prompt-to-prompt, text2live, input (the photograph itself), noise. --lora, "
      "--embedding "
      "and --vae begin with the name of their model and '=', unless there is one model. Samples are saved "
      "in --out as they are made; run the same command again to continue. Other photographs, CLIPs or seeds are "
      "refused unless you pass --change. Use torchrun or srun for several processes, which share the edits.");
  const auto count = [](std::int64_t least) { return example::range(least, std::int64_t{1'000'000'000}); };

  auto* what = app.add_option_group("What is compared");
  what->add_option("--curve", o.curves,
                   "each \"METHOD NAME=VALUE...\": a method and its settings, one of which may have several values, "
                   "FIRST:LAST:STEP or A,B,C")
      ->required();
  what->add_option("--model", o.models,
                   "each NAME=MODEL: a diffusers folder, a .safetensors file or a name on the Hub; curves select it by "
                   "model=NAME if there are several")
      ->type_name("NAME=MODEL")
      ->check(named_path);
  example::add_download(app);
  // Named as the models are; with one model, the name may be left out.
  example::add_additions(*what, o.every, "[NAME=]");
  what->add_option("--vae", o.vaes, example::vae_help())->type_name("[NAME=]MODEL");
  example::add_weights(*what, o.every);

  auto* data = app.add_option_group("Photographs");
  auto* edits =
      data->add_option("--edits", o.edits, "edits as JSON lines: file, input, edit, output")->type_name("FILE");
  auto* photographs =
      data->add_option("--photographs", o.images, "folder with the files that --edits names (default: its own folder)")
          ->type_name("FOLDER");
  example::old_name(*data, photographs, "--images");
  data->add_option("--pairs", o.pairs, "take edits from pairs in the published layout instead (seeds.json)")
      ->type_name("FOLDER")
      ->excludes(edits);
  data->add_option("--split", o.split, "split of --pairs to use")
      ->capture_default_str()
      ->check(CLI::IsMember({"train", "validation", "test", "all"}));
  data->add_flag("--scan", o.scan, "list the folder of pairs instead of reading seeds.json");
  data->add_option("--limit", o.limit, "maximum number of edits, 0 for all")->capture_default_str()->check(count(0));
  data->add_option("--resolution", o.resolution,
                   "length of the longer side in pixels (default: 512; the photographs' own with --numerics diffusers)")
      ->check(example::range(64, 16384));
  data->add_option("--numerics", o.numerics,
                   "published implementation to match in photograph preparation and default noise levels")
      ->capture_default_str()
      ->check(CLI::IsMember({"released", "diffusers"}));
  data->add_option("--seed", o.seed, "random seed; edit i draws its noise from seed + i")
      ->capture_default_str()
      ->check(example::whole_number);

  auto* measures = app.add_option_group("What is measured");
  measures->add_option("--clip", o.clips, "each NAME=MODEL: a CLIP model")
      ->type_name("NAME=MODEL")
      ->required()
      ->check(named_path);
  measures
      ->add_option("--clip-tokenizer", o.clip_tokenizer,
                   "folder with vocab.json and merges.txt, for CLIP models without a tokenizer")
      ->type_name("MODEL");
  measures
      ->add_option("--range", o.range,
                   "range of pictures given to CLIP: [0,1] (correct) or [-1,1] as in the released evaluation (compat)")
      ->capture_default_str()
      ->check(CLI::IsMember({"correct", "compat"}));
  measures->add_option("--confidence", o.confidence, "confidence level of the intervals")
      ->capture_default_str()
      ->check(example::range(0.5, 0.9999));
  measures->add_option("--resamples", o.resamples, "number of bootstrap resamples")
      ->capture_default_str()
      ->check(example::range(std::int64_t{1}, std::int64_t{10'000'000}));

  auto* run = app.add_option_group("The run");
  run->add_option("--out", o.out, "folder for samples, table, figures and report")->type_name("FOLDER")->required();
  example::add_change(*run, o.change);
  auto* kept = run->add_option("--keep-pictures", o.grid, "number of edits whose pictures are kept and shown")
                   ->capture_default_str()
                   ->check(count(0));
  example::old_name(*run, kept, "--grid");
  run->add_option("--gnuplot", o.gnuplot, "program that draws the figures")->capture_default_str();
  example::add_computing(*run, o.every);
}

}  // namespace evaluate
