// Compares editors as the InstructPix2Pix paper does: directional against image similarity under CLIP, along the scale
// of each method, with confidence intervals, figures and a report.
//
//   evaluate --config examples/13_evaluate/small-editor.toml --photographs photographs
//     --clip vit-l=clip-vit-large-patch14 --out comparison

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/data/pair_folder.hpp"
#include "ip2p/evaluate/bootstrap.hpp"
#include "ip2p/evaluate/edit_set.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/evaluate/sweep_journal.hpp"
#include "ip2p/evaluate/sweep_plot.hpp"
#include "ip2p/evaluate/sweep_table.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/journal_file.hpp"
#include "ip2p/parallel/device_for.hpp"
#include "ip2p/parallel/environment.hpp"
#include "ip2p/vision/clip.hpp"
#include "methods.hpp"
#include "options.hpp"
#include "report.hpp"
#include "support/advice.hpp"
#include "support/clip.hpp"
#include "support/contents.hpp"
#include "support/model.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/reporting.hpp"
#include "support/run_record.hpp"
#include "support/use_threads.hpp"

namespace evaluate {
namespace {

using ip2p::require;

ip2p::PairSplit split_named(const std::string& name) {
  if (name == "train") return ip2p::PairSplit::train;
  if (name == "validation") return ip2p::PairSplit::validation;
  return name == "test" ? ip2p::PairSplit::test : ip2p::PairSplit::all;
}

/// The folder of the photographs.
std::filesystem::path images_of(const Options& o) {
  if (!o.images.empty()) return o.images;
  return o.edits.has_parent_path() ? o.edits.parent_path() : std::filesystem::path(".");
}

ip2p::EditSet open_edits(const Options& o, ip2p::Numerics numerics) {
  const ip2p::EditSetOptions options{
      .resolution = o.resolution, .numerics = numerics, .seed = o.seed, .limit = o.limit};
  if (!o.pairs.empty()) {
    return ip2p::EditSet::from_pairs(ip2p::PairFolder::open(o.pairs, {.split = split_named(o.split), .scan = o.scan}),
                                     options);
  }
  require(!o.edits.empty(), "expected --edits or --pairs, found neither");
  return ip2p::EditSet::from_list(o.edits, images_of(o), options);
}

/// The points of all curves, with every setting filled in and models and CLIPs given by digest.
std::vector<ip2p::SweepPoint> points_of(Workshop& shop) {
  std::vector<ip2p::SweepPoint> points;
  std::set<std::string> names;
  for (const auto& text : shop.options.curves) {
    auto sweep = ip2p::Sweep::parse(text);
    require(names.insert(sweep.name).second, "--curve: expected each name once, found '{}' twice; add name=...",
            sweep.name);
    auto defaults = method_named(sweep.method).defaults;
    for (const std::string kind : {"model", "clip"}) {
      if (!defaults.contains(kind)) continue;
      require(sweep.parameter != kind, "curve '{}': expected one {}, found several", sweep.name, kind);
      const auto digest =
          shop.digest_of(sweep.name, kind, sweep.settings.has(kind) ? sweep.settings.text(kind) : std::string());
      sweep.settings.set(kind, digest);
      if (kind != "model") continue;
      // What the model recommends comes before what the papers used.
      for (const auto& [setting, value] : shop.recommended(digest)) {
        if (defaults.contains(setting)) defaults[setting] = value;
      }
    }
    sweep.complete(defaults);
    for (auto& point : sweep.points()) points.push_back(std::move(point));
  }
  return points;
}

std::vector<ip2p::ClipMeasure> open_clips(const Options& o, const std::vector<Named>& clips) {
  const auto device = ip2p::parse_device(o.every.device);
  std::vector<ip2p::ClipMeasure> measures;
  for (const auto& [name, path] : clips) {
    measures.push_back({name, example::open_clip(path, o.clip_tokenizer, device),
                        o.range == "correct" ? ip2p::ClipRange::correct : ip2p::ClipRange::compat});
    fmt::print("CLIP {}: {}\n", name, path.string());
  }
  return measures;
}

/// At which size photographs are edited, in words.
std::string size_text(const Options& o) {
  if (o.numerics == "diffusers" && !o.resolution) return "at the photographs' own sizes, to a multiple of 8";
  return fmt::format("at {} pixels", o.resolution.value_or(512));
}

/// Whether --out holds this table, this page and every file that the page shows.
bool is_there(const Options& o, std::span<const ip2p::SweepRow> rows, const std::string& page,
              const std::vector<std::string>& figures, bool sheet) {
  const auto exists = [&](const std::string& name) { return std::filesystem::exists(o.out / name); };
  return ip2p::detail::file_text(o.out / "curves.csv") == ip2p::sweep_csv(rows) &&
         ip2p::detail::file_text(o.out / "report.html") == page && std::ranges::all_of(figures, exists) &&
         (!sheet || exists("sheet.png"));
}

/// Table, sheet, figures and page. \param notes for the page's summary  \param drawn whether any sample is new; else
/// what is there already stays  \param stop ends it before anything is written
/// \throws Error where no figure could be drawn, after everything else is written; Cancelled when stopped
void write_report(const Options& o, const std::vector<Named>& clips, const std::vector<ip2p::SweepPoint>& points,
                  const std::vector<std::string>& ids, const ip2p::EditSet& edits, const ip2p::SweepResults& results,
                  const ip2p::KeptPictures& kept, const std::string& notes, bool drawn, std::stop_token stop) {
  const auto rows = ip2p::sweep_table(points, ids, results,
                                      {.confidence = o.confidence, .resamples = o.resamples, .stop = std::move(stop)});
  example::result_follows();
  fmt::print("{:<24} {:>10}", "curve", "value");
  for (const auto& clip : clips) fmt::print("  {:>22} {:>12}", clip.name + " direction", "image");
  fmt::print("\n");
  for (const auto& row : rows) {
    fmt::print("{:<24} {:>10}", row.point.curve, row.point.label);
    for (const auto& clip : clips) {
      fmt::print("  {:>22.4f} {:>12.4f}", row.scores.at(clip.name + "/direction").mean,
                 row.scores.at(clip.name + "/image").mean);
    }
    fmt::print("\n");
  }

  Report report;
  report.summary = fmt::format(
      "{} edits {}, seed {}, numerics {}, pictures to CLIP in the {} range. Means with {:g} % intervals of "
      "the "
      "bootstrap over edits ({} resamples).",
      ids.size(), size_text(o), o.seed, o.numerics, o.range, 100 * o.confidence, o.resamples);
  report.summary += notes;
  for (const auto& clip : clips) {
    report.clips.push_back(clip.name);
    report.figures.push_back("curves-" + clip.name + ".svg");
  }
  for (std::int64_t i = 0; i < kept.edits; ++i) report.shown.push_back(edits.get(i).words);
  if (!drawn && is_there(o, rows, report_page(rows, points, report), report.figures, kept.edits > 0)) {
    fmt::print("{}\n", (o.out / "report.html").string());
    return;
  }
  ip2p::write_sweep_csv(o.out / "curves.csv", rows);
  if (kept.edits > 0) ip2p::write_image(o.out / "sheet.png", picture_sheet(points, kept, report.shown, o.seed));
  std::string problem;
  report.figures.clear();
  for (const auto& clip : clips) {
    ip2p::SweepPlot plot{.x = clip.name + "/direction", .y = clip.name + "/image"};
    plot.title = clip.name;
    plot.program = o.gnuplot;
    try {
      ip2p::draw_sweep(o.out, "curves-" + clip.name, rows, plot);
      report.figures.push_back("curves-" + clip.name + ".svg");
    } catch (const ip2p::Error& error) {
      problem = error.what();
    }
  }
  const auto page = report_page(rows, points, report);
  ip2p::write_file_atomically(o.out / "report.html", std::as_bytes(std::span(page)));
  require(problem.empty(), "{}; the table and the page were written without figures", problem);
  fmt::print("{}\n", (o.out / "report.html").string());
}

/// The file that says what the samples in --out depend on.
constexpr const char* record_name = "run.json";

/// What every sample depends on, besides its point.
nlohmann::json settings_of(const Options& o, const std::vector<Named>& clips, const ip2p::EditSet& edits) {
  auto settings = example::computing_settings(o.every);
  settings["--seed"] = o.seed;
  settings["--resolution"] = o.resolution.value_or(512);
  settings["--numerics"] = o.numerics;
  settings["--dtype"] = o.every.dtype;
  settings["--range"] = o.range;
  std::map<std::string, std::string> contents;
  for (std::int64_t i = 0; i < edits.size(); ++i) contents[edits.id(i)] = edits.content(i);
  if (o.pairs.empty()) {
    settings["--edits"] = example::content_setting(o.edits, edits.fingerprint());
    settings["--photographs"] = example::parts_setting(images_of(o), contents);
  } else {
    settings["--edits"] = example::content_setting(o.pairs, edits.fingerprint());
    settings["--pairs"] = example::parts_setting(o.pairs, contents);
  }
  for (const auto& [name, path] : clips) {
    settings["--clip " + name] =
        example::content_setting(path, example::model_digest(example::clip_files(path, o.clip_tokenizer)));
  }
  return settings;
}

/// Warns once of each scale that a model was not trained for.
void warn_of_scales(const std::vector<ip2p::SweepPoint>& points, Workshop& shop) {
  std::set<std::string> said;
  for (const auto& point : points) {
    if (point.method != "instruct") continue;
    const auto about = example::about_scales(example::advice_of(shop.model(point.settings.text("model"))->opened),
                                             point.settings.number("image-scale"), point.settings.number("text-scale"));
    if (!about.empty() && said.insert(about).second) example::warn(fmt::format("curve '{}': {}", point.curve, about));
  }
}

/// Says how to go on. \return the exit status
int say_stopped(const ip2p::Cancelled& cancelled) {
  fmt::print(stderr, "evaluate: {}; run the same command again to continue\n", cancelled.what());
  return 130;
}

/// Whether there are files for samples, if only empty ones.
bool has_journals(const std::filesystem::path& folder) {
  return std::ranges::any_of(ip2p::detail::folder_entries(folder), [](const auto& entry) {
    return entry.path().filename().string().starts_with("samples-");
  });
}

int run(Options o, const example::Interrupt& interrupt) {
  example::use_threads(o.every.threads);
  const auto place = ip2p::place_in_environment();
  o.every.device = ip2p::device_for(o.every.device, place).str();
  const auto clips = named_paths(o.clips, "--clip");
  Workshop shop{o, models_of(o), clips, interrupt.token()};
  const auto edits = open_edits(o, shop.numerics());
  const auto points = points_of(shop);
  std::vector<std::string> ids;
  for (std::int64_t i = 0; i < edits.size(); ++i) ids.push_back(edits.id(i));
  fmt::print("photographs: edited {}; {}\n", size_text(o),
             o.numerics == "released" ? "edges beyond sides of multiples of 64 are cut"
                                      : "stretched to sides of multiples of 8");

  const example::OutputFolder out(o.out), pictures(o.out / "pictures");
  const ip2p::KeptPictures kept{o.out / "pictures", std::min(o.grid, edits.size())};
  const nlohmann::json settings{{"settings of the run", record_name}};
  auto before = ip2p::SweepResults::read(o.out, settings);
  bool begun = false;
  example::RunRecord record(o.out / record_name, settings_of(o, clips, edits), [&] {
    // At the end of a run without samples its journal is gone: those that are left are of other processes at work.
    return ip2p::SweepResults::read(o.out, settings).size() > 0 || (begun && has_journals(o.out));
  });
  record.agree(o.change);
  fmt::print("{} points of {} edits: {} samples, {} of them done\n", points.size(), ids.size(),
             points.size() * ids.size(),
             static_cast<std::int64_t>(points.size() * ids.size()) - ip2p::missing_samples(points, ids, before));
  if (before.damaged() > 0) fmt::print(stderr, "warning: {} damaged lines ignored\n", before.damaged());
  std::fflush(stdout);

  ip2p::SweepOptions options{.rank = place.rank, .processes = place.size, .kept = kept, .stop = interrupt.token()};
  bool drawn = false;
  if (!ip2p::open_samples(points, edits, before, options).empty()) {
    std::map<std::string, ip2p::EditMethod> made;
    for (const auto& point : points) {
      if (!made.contains(point.method)) made[point.method] = method_named(point.method).make(shop);
      // Report a model that cannot be loaded, or is of another kind, before any picture is drawn.
      if (point.settings.has("model")) shop.require_kind(point);
      if (point.settings.has("clip")) static_cast<void>(shop.guide(point.settings.text("clip")));
    }
    warn_of_scales(points, shop);
    const auto measure = ip2p::clip_measures(open_clips(o, clips));
    // First, for what it refuses must leave the record of another process alone.
    ip2p::SweepJournal journal(o.out, place.rank, settings);
    before = ip2p::SweepResults::read(o.out, settings);  // another process may have ended meanwhile
    drawn = !ip2p::open_samples(points, edits, before, options).empty();
    record.begin(before.size());
    begun = true;
    example::ProgressBar bar(stderr);
    options.on_sample = [&bar](std::int64_t done, std::int64_t all) { bar({.index = done - 1, .count = all}); };
    try {
      ip2p::run_sweep(points, edits, made, measure, before, journal, options);
    } catch (const ip2p::Cancelled& cancelled) {
      return say_stopped(cancelled);
    }
  }

  const auto results = ip2p::SweepResults::read(o.out, settings);
  if (const auto missing = ip2p::missing_samples(points, ids, results); missing > 0) {
    fmt::print("other processes are still making {} samples; the last one writes the report\n", missing);
    return 0;
  }
  const ip2p::detail::AppendedFile writer(o.out / "report.lock");
  if (!writer.lock()) {
    fmt::print("another process is writing the report\n");
    return 0;
  }
  std::string notes;
  for (const auto& [digest, model] : shop.found) notes += fmt::format(" {} is the model {}.", digest, model.name);
  for (const auto& change : record.changes()) notes += fmt::format(" Settings changed {}.", change);
  try {
    write_report(o, clips, points, ids, edits, results, kept, notes, drawn, interrupt.token());
  } catch (const ip2p::Cancelled& cancelled) {
    return say_stopped(cancelled);
  }
  return 0;
}

}  // namespace
}  // namespace evaluate

int main(int argc, char** argv) {
  evaluate::Options o;
  return example::run_program(
      argc, argv, "evaluate", "Compares image editing methods by CLIP similarity over sweeps of their settings.",
      [&](CLI::App& app) { evaluate::add_options(app, o); },
      [&](const example::Interrupt& interrupt) { return evaluate::run(o, interrupt); });
}
