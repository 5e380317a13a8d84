#pragma once

/// \file
/// Turns captions into triplets with a language model: sampled, checked, counted and resumable.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/json_whole.hpp"
#include "ip2p/language/concepts.hpp"
#include "ip2p/language/moderation.hpp"
#include "ip2p/language/triplet_journal.hpp"
#include "ip2p/language/triplets.hpp"

namespace ip2p {

/// Counts of what happened to captions and samples.
struct TripletCounts {
  std::int64_t captions = 0;               ///< Read so far, duplicates included.
  std::int64_t duplicate_captions = 0;     ///< Skipped: the same caption came before.
  std::int64_t duplicate_urls = 0;         ///< Skipped: the same picture came before.
  std::int64_t written = 0;                ///< Triplets.
  std::int64_t given_up = 0;               ///< Captions for which no try gave a triplet.
  std::int64_t samples = 0;                ///< Answers of the language model.
  std::array<std::int64_t, 5> rejected{};  ///< Rejected samples, indexed by `TripletRejection`.

  /// Samples that were rejected for this reason.
  [[nodiscard]] std::int64_t of(TripletRejection rejection) const {
    return rejected[static_cast<std::size_t>(rejection)];
  }

  /// All counts by name; `from_json` reads them.
  [[nodiscard]] nlohmann::json to_json() const {
    nlohmann::json json{{"captions", captions},
                        {"duplicate_captions", duplicate_captions},
                        {"duplicate_urls", duplicate_urls},
                        {"written", written},
                        {"given_up", given_up},
                        {"samples", samples}};
    for (std::size_t i = 0; i < rejected.size(); ++i) {
      json[std::string(rejection_name(static_cast<TripletRejection>(i)))] = rejected[i];
    }
    return json;
  }

  /// The inverse of `to_json`. \throws nlohmann::json::exception for anything else
  static TripletCounts from_json(const nlohmann::json& json) {
    TripletCounts counts;
    counts.captions = detail::json_whole<std::int64_t>(json.at("captions"));
    counts.duplicate_captions = detail::json_whole<std::int64_t>(json.at("duplicate_captions"));
    counts.duplicate_urls = detail::json_whole<std::int64_t>(json.at("duplicate_urls"));
    counts.written = detail::json_whole<std::int64_t>(json.at("written"));
    counts.given_up = detail::json_whole<std::int64_t>(json.at("given_up"));
    counts.samples = detail::json_whole<std::int64_t>(json.at("samples"));
    for (std::size_t i = 0; i < counts.rejected.size(); ++i) {
      counts.rejected[i] =
          detail::json_whole<std::int64_t>(json.at(std::string(rejection_name(static_cast<TripletRejection>(i)))));
    }
    return counts;
  }
};

/// Settings of `generate_triplets`. The defaults are the released generator's.
struct TripletGeneratorOptions {
  /// How the language model draws its answers.
  CompletionOptions sampling{.max_tokens = 256, .temperature = 0.7, .top_p = 1.0, .frequency_penalty = 0.1};
  TripletFormat format = {};  ///< Its `end` is always a stop text, whatever `sampling.stop` says.
  std::int64_t tries = 4;     ///< Samples per caption before giving up on it.
  std::int64_t batch = 16;    ///< Captions per call of the model; also the unit that is committed to disk.
  std::string model = {};     ///< Name of the model, so that a run is not resumed with another.
  bool change = false;        ///< Resume with other settings than the run's; the journal records where they begin.
  std::function<void(std::int64_t done, std::int64_t all)> on_batch = {};  ///< After each batch, in captions.
};

/// Makes at most one triplet from each caption and writes them in order as JSON lines to `output`.
///
/// Duplicate captions (ignoring surrounding white space) and duplicate URLs are skipped. Try t of caption i uses sample
/// i * tries + t of the seed, so the arguments determine the file (if the model is deterministic). The same call
/// resumes a run that was interrupted by `sampling.cancel`, an error or a kill: complete batches are kept
/// (`<output>.journal` records their number and the counts), and the resulting bytes equal those of an uninterrupted
/// run. Nothing is written before the first batch is complete.
/// \return counts of the whole run  \throws Error when existing files belong to other settings, what `model` throws,
///   and on I/O failure
template <class Model, class Moderation = NoModeration>
TripletCounts generate_triplets(Model& model, std::span<const SourceCaption> captions,
                                const std::filesystem::path& output, TripletGeneratorOptions options = {},
                                const Moderation& moderation = {}) {
  require_language_model<Model>();
  require_moderation<Moderation>();
  require(options.tries >= 1, "triplets: tries: expected at least 1, found {}", options.tries);
  require(options.batch >= 1, "triplets: batch: expected at least 1, found {}", options.batch);
  options.sampling.stop = {options.format.end};
  const auto& s = options.sampling;
  s.validate();
  std::string all;
  for (const auto& source : captions) all += source.caption + '\0' + source.url + '\0';
  detail::TripletJournal journal(
      output,
      {{"captions", detail::text_checksum(all)},
       {"model", options.model},
       {"tries", options.tries},
       {"batch", options.batch},
       {"seed", s.seed},
       {"max_tokens", s.max_tokens},
       {"temperature", s.temperature},
       {"top_p", s.top_p},
       {"frequency_penalty", s.frequency_penalty},
       {"presence_penalty", s.presence_penalty},
       {"format", {options.format.after_caption, options.format.after_instruction, options.format.end}}},
      options.change);
  TripletCounts counts;
  if (!journal.counts().is_null()) counts = TripletCounts::from_json(journal.counts());

  const auto total = static_cast<std::int64_t>(captions.size());
  std::set<std::string> seen_captions, seen_urls;
  for (std::int64_t first = 0, unit = 0; first < total; first += options.batch, ++unit) {
    const auto end = std::min(total, first + options.batch);
    const bool done = unit < journal.next();
    std::vector<std::int64_t> open;  // captions still without a triplet
    for (std::int64_t i = first; i < end; ++i) {
      const auto& source = captions[static_cast<std::size_t>(i)];
      const bool new_caption = seen_captions.insert(detail::stripped(source.caption)).second;
      const bool new_url = source.url.empty() || seen_urls.insert(source.url).second;
      if (new_caption && new_url) open.push_back(i);
      if (!done) {
        ++counts.captions;
        if (!new_caption) ++counts.duplicate_captions;
        if (new_caption && !new_url) ++counts.duplicate_urls;
      }
    }
    if (done) continue;

    std::vector<std::string> lines(static_cast<std::size_t>(end - first));
    for (std::int64_t attempt = 0; attempt < options.tries && !open.empty(); ++attempt) {
      std::vector<CompletionRequest> requests;
      for (const auto i : open) {
        requests.push_back({options.format.prompt(captions[static_cast<std::size_t>(i)].caption),
                            static_cast<std::uint64_t>(i * options.tries + attempt)});
      }
      const std::vector<Completion> answers = model.complete(std::span<const CompletionRequest>(requests), s);
      require(answers.size() == requests.size(), "triplets: expected {} completions, found {}", requests.size(),
              answers.size());
      counts.samples += static_cast<std::int64_t>(answers.size());
      std::vector<std::int64_t> again;
      for (std::size_t k = 0; k < open.size(); ++k) {
        const auto& source = captions[static_cast<std::size_t>(open[k])];
        auto [triplet, rejection] = parse_triplet(source.caption, answers[k].text, options.format);
        if (answers[k].finish == FinishReason::filter || (triplet && !moderation.allows(*triplet))) {
          triplet.reset();
          rejection = TripletRejection::moderated;
        }
        if (!triplet) {
          ++counts.rejected[static_cast<std::size_t>(rejection)];
          again.push_back(open[k]);
          continue;
        }
        triplet->url = source.url;
        lines[static_cast<std::size_t>(open[k] - first)] = triplet_to_json(*triplet) + "\n";
        ++counts.written;
      }
      open = std::move(again);
    }
    counts.given_up += static_cast<std::int64_t>(open.size());
    std::string text;
    for (const auto& line : lines) text += line;
    journal.finish(text, counts.to_json());
    if (options.on_batch) options.on_batch(end, total);
  }
  return counts;
}

}  // namespace ip2p
