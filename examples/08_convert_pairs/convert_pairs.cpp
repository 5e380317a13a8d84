// Packs a training set of image pairs, in the layout of the published InstructPix2Pix data, into tar files with an
// index: fewer, larger files that can be read in any order. WebDataset reads them too. Or copies the set into an image
// folder, which Hugging Face's datasets loads.
//
//   convert_pairs --pairs clip-filtered-dataset --out shards
//   convert_pairs --pairs clip-filtered-dataset --out images --to imagefolder

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/pair_shards.hpp"
#include "ip2p/data/write_image_folder.hpp"
#include "ip2p/data/write_pair_shards.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "support/contents.hpp"
#include "support/option_table.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/run_record.hpp"

namespace {

/// Hidden, so that whoever loads the folder as a data set passes it over.
constexpr const char* record_name = ".run.json";

struct Options {
  std::filesystem::path folder, out;
  std::string split = "all", to = "shards";
  ip2p::PairFolderOptions read;
  ip2p::PairShardsOptions write;
  double max_mebibytes = 1024;
  bool trust = false;
  example::OptionValues values;  ///< All options, by name.
};

/// Whether a folder holds anything but the record of a run.
bool holds_results(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder) &&
         std::ranges::any_of(ip2p::detail::folder_entries(folder),
                             [](const auto& entry) { return entry.path().filename() != record_name; });
}

int run(Options o, const example::Interrupt& interrupt) {
  const std::map<std::string, ip2p::PairSplit> splits{{"train", ip2p::PairSplit::train},
                                                      {"validation", ip2p::PairSplit::validation},
                                                      {"test", ip2p::PairSplit::test},
                                                      {"all", ip2p::PairSplit::all}};
  o.read.split = splits.at(o.split);
  const auto folder = ip2p::PairFolder::open(o.folder, o.read);
  fmt::print("{}: {} prompts, split {}\n", o.folder.string(), folder.size(), o.split);
  // datasets uses the same split names; the whole set becomes its "train".
  const auto out = o.to == "imagefolder" && o.split != "all" ? o.out / o.split : o.out;
  auto settings = example::settings_of(o.values, {"largest-damage"});
  settings["--pairs"] = example::content_setting(o.folder, example::pairs_digest(o.folder));
  const example::OutputFolder made(out);
  const ip2p::FolderLock lock(out);
  example::RunRecord record(out / record_name, settings, [&] { return holds_results(out); });
  record.agree();
  record.begin(0);
  example::ProgressBar bar(stderr);
  const auto on_pair = [&bar](std::int64_t done, std::int64_t count) { bar({.index = done - 1, .count = count}); };
  const auto list = [](const std::vector<ip2p::SkippedPair>& skipped) {
    for (const auto& pair : skipped) fmt::print("skipped {}: {}\n", pair.path, pair.reason);
  };
  try {
    if (o.to == "imagefolder") {
      const auto report = ip2p::write_image_folder(folder, out,
                                                   {.decode = !o.trust,
                                                    .largest_damage = o.write.largest_damage,
                                                    .on_pair = on_pair,
                                                    .stop = interrupt.token()});
      list(report.skipped);
      fmt::print("{} pairs of {} prompts; {} pairs skipped\n{}\n", report.pairs, folder.size(), report.skipped.size(),
                 out.string());
      return 0;
    }
    o.write.max_bytes = static_cast<std::uint64_t>(o.max_mebibytes * (1 << 20));
    o.write.decode = !o.trust;
    o.write.stop = interrupt.token();
    o.write.on_pair = on_pair;
    const auto report = ip2p::write_pair_shards(folder, o.out, o.write);
    list(report.skipped);
    const auto shards = ip2p::PairShards::open(o.out);
    fmt::print("{} pairs of {} prompts in {} shards ({} written, {} kept); {} pairs skipped\n{}\n", shards.pairs(),
               shards.size(), report.written + report.kept, report.written, report.kept, report.skipped.size(),
               o.out.string());
    return 0;
  } catch (const ip2p::Cancelled& cancelled) {
    fmt::print(stderr, "\nconvert_pairs: {}; finished files are kept; run the same command again to continue\n",
               cancelled.what());
    return 130;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "convert_pairs",
      "Packs a training set of image pairs into tar files with an index, or copies it into an image folder.",
      [&](CLI::App& app) {
        app.footer("Run the same command again to continue; other settings need another folder.");
        app.callback([&] { o.values = example::option_values(app); });
        auto* pairs = app.add_option("--pairs", o.folder,
                                     "pairs to read: seeds.json and a folder for each prompt, or an image folder")
                          ->type_name("FOLDER")
                          ->required();
        example::old_name(app, pairs, "--folder");
        app.add_option("--out", o.out, "folder to write; created if missing")->type_name("FOLDER")->required();
        app.add_option("--to", o.to, "output: tar shards, or an imagefolder for Hugging Face's datasets")
            ->capture_default_str()
            ->check(CLI::IsMember({"shards", "imagefolder"}));
        app.add_option("--split", o.split, "prompts to convert; the splits are 90, 5 and 5 % of the published order")
            ->capture_default_str()
            ->check(CLI::IsMember({"train", "validation", "test", "all"}));
        app.add_flag("--scan", o.read.scan, "list the folder instead of reading seeds.json");
        app.add_option("--shard-size", o.max_mebibytes, "maximum MiB per shard")
            ->capture_default_str()
            ->check(example::range(0.001, 1048576.0));
        app.add_option("--shard-count", o.write.max_count, "maximum pairs per shard")
            ->capture_default_str()
            ->check(example::range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        app.add_option("--largest-damage", o.write.largest_damage, "number of damaged pairs to tolerate")
            ->capture_default_str()
            ->check(example::range(std::int64_t{0}, std::int64_t{1'000'000'000}));
        app.add_flag("--trust", o.trust, "do not decode the pictures to check them");
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
