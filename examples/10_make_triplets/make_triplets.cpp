// The text half of the data engine: a language model learns from human-written triplets how an instruction changes a
// caption, and makes many more.
//
//   make_triplets train --triplets human-written-prompts.jsonl --model gpt2 --out triplet-gpt2
//   make_triplets measure --triplets human-written-prompts.jsonl --model triplet-gpt2
//   make_triplets generate --captions captions.txt --model triplet-gpt2 --out triplets.jsonl

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/io/atomic_file.hpp"
#include "ip2p/language/moderation.hpp"
#include "ip2p/language/triplet_generator.hpp"
#include "ip2p/language/triplets.hpp"
#include "language_choice.hpp"
#include "options.hpp"
#include "support/contents.hpp"
#include "support/hub.hpp"
#include "support/program.hpp"
#include "support/reporting.hpp"
#include "support/run_record.hpp"
#include "train.hpp"

namespace make_triplets {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  ip2p::detail::for_each_line(path, [&](const std::string& line, const std::string&) { lines.push_back(line); });
  return lines;
}

/// What the triplets depend on.
nlohmann::json settings_of(const GenerateOptions& o) {
  auto settings = example::settings_of(o.values, {"connections", "requests-per-minute", "key-variable"});
  settings["--captions"] = example::content_setting(o.captions, example::file_digest(o.captions));
  if (!o.language.model.empty()) settings["--model"] = example::content_setting(o.language.model, o.language.name());
  if (!o.blocked.empty()) {
    settings["--blocked-words"] = example::content_setting(o.blocked, example::file_digest(o.blocked));
  }
  return settings;
}

int generate(GenerateOptions o, const example::Interrupt& interrupt) {
  example::check_folders({&o.out});
  const auto captions = ip2p::read_captions(o.captions);
  const ip2p::BlockedWords blocked(o.blocked.empty() ? std::vector<std::string>() : lines_of(o.blocked));
  o.language.model = example::located(o.language.model);
  auto model = open_language(o.language);
  o.generator.sampling = o.language.sampling;
  o.generator.sampling.cancel = interrupt.token();
  o.generator.model = o.language.name();
  o.generator.change = o.change;
  const auto beside = [&](const char* ending) { return fs::path(o.out.string() + ending); };
  example::RunRecord record(beside(".run.json"), settings_of(o), [&] { return fs::exists(beside(".journal")); });
  record.agree(o.change);
  ip2p::remove_temporaries_of(beside(".run.json"));
  record.begin(std::max<std::int64_t>(0, record.finished()));
  fmt::print("{} captions\n", captions.size());
  example::ProgressBar bar(stderr);
  o.generator.on_batch = [&](std::int64_t done, std::int64_t all) {
    bar({.index = done - 1, .count = all});
    record.finish(done);
  };
  try {
    const auto counts = ip2p::generate_triplets(model, captions, o.out, o.generator, blocked);
    record.finish(static_cast<std::int64_t>(captions.size()));  // an earlier run may have ended before it said so
    const auto named = counts.to_json();
    for (const auto& [name, count] : named.items()) {
      fmt::print("{:20} {}\n", name, count.get<std::int64_t>());
    }
    fmt::print("{}{}\n", model.report(), o.out.string());
    return 0;
  } catch (const ip2p::Cancelled& cancelled) {
    fmt::print(stderr, "\nmake_triplets: {}; complete batches are kept; run the same command again to continue\n",
               cancelled.what());
    return 130;
  }
}

/// Measures single samples: no retries, no selection.
int measure(MeasureOptions o, const example::Interrupt& interrupt) {
  Split split(o.data);
  o.language.model = example::located(o.language.model);
  const auto model = open_language(o.language);
  const ip2p::TripletFormat format;
  const auto left_out = std::erase_if(
      split.held_out, [&](const ip2p::Triplet& triplet) { return !model.fits(triplet, format, o.longest); });
  ip2p::require(!split.held_out.empty(), "{}: expected held-out triplets that fit into the model, found none",
                o.data.string());
  auto sampling = o.language.sampling;
  sampling.stop = {format.end};
  sampling.cancel = interrupt.token();
  const auto captions = static_cast<std::int64_t>(split.held_out.size());
  std::vector<ip2p::CompletionRequest> requests;
  for (std::int64_t n = 0; n < o.samples * captions; ++n) {
    requests.push_back(
        {format.prompt(split.held_out[static_cast<std::size_t>(n % captions)].caption), static_cast<std::uint64_t>(n)});
  }
  std::vector<ip2p::Completion> answers;
  example::ProgressBar bar(stderr);
  for (std::size_t i = 0; i < requests.size(); i += 32) {
    const auto count = std::min<std::size_t>(32, requests.size() - i);
    for (auto& answer : model.complete(std::span(requests).subspan(i, count), sampling)) {
      answers.push_back(std::move(answer));
    }
    bar({.index = static_cast<std::int64_t>(answers.size()) - 1, .count = static_cast<std::int64_t>(requests.size())});
  }

  std::array<std::int64_t, 5> rejected{};
  std::int64_t parsed = 0, changed = 0, kept = 0;
  double words = 0;
  for (std::size_t n = 0; n < answers.size(); ++n) {
    const auto& caption = split.held_out[n % split.held_out.size()].caption;
    const auto [triplet, why] = ip2p::parse_triplet(caption, answers[n].text);
    parsed += triplet || why == ip2p::TripletRejection::unchanged || why == ip2p::TripletRejection::empty ? 1 : 0;
    if (!triplet) {
      ++rejected[static_cast<std::size_t>(why)];
      continue;
    }
    ++changed;
    const auto share = ip2p::kept_words(caption, triplet->edited);
    words += share;
    kept += share >= 0.5 ? 1 : 0;
  }
  const auto total = static_cast<double>(answers.size());
  example::result_follows();
  fmt::print("{} samples of {} held-out captions; {} too long for the model left out\n", answers.size(), captions,
             left_out);
  fmt::print("with exactly one delimiter:                               {:5.1f} % ({})\n", 100 * parsed / total,
             parsed);
  fmt::print("caption changes (a usable triplet):                       {:5.1f} % ({})\n", 100 * changed / total,
             changed);
  fmt::print("caption changes and keeps at least half of its words:     {:5.1f} % ({})\n", 100 * kept / total, kept);
  if (changed > 0) {
    fmt::print("words kept by the captions that change, on average:       {:5.1f} %\n",
               100 * words / static_cast<double>(changed));
  }
  for (std::size_t i = 0; i < rejected.size(); ++i) {
    fmt::print("rejected, {:20} {}\n", ip2p::rejection_name(static_cast<ip2p::TripletRejection>(i)), rejected[i]);
  }
  fmt::print("{}\nThe first ten:\n", model.report());
  for (std::size_t n = 0; n < std::min<std::size_t>(10, answers.size()); ++n) {
    fmt::print("{}. {}\n{}\n\n", n + 1, split.held_out[n % split.held_out.size()].caption, answers[n].text);
  }
  return 0;
}

}  // namespace
}  // namespace make_triplets

int main(int argc, char** argv) {
  make_triplets::Commands commands;
  return example::run_program(
      argc, argv, "make_triplets",
      "Teaches a language model how instructions change captions, and makes triplets with it.",
      [&](CLI::App& app) { make_triplets::add_options(app, commands); },
      [&](const example::Interrupt& interrupt) {
        if (*commands.training) return make_triplets::train(commands.train, interrupt);
        if (*commands.generating) return make_triplets::generate(commands.generate, interrupt);
        return make_triplets::measure(commands.measure, interrupt);
      });
}
