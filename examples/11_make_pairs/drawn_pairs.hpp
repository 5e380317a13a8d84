#pragma once

/// \file
/// The pairs of one prompt: drawn in batches, judged, the best of them chosen.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/progress.hpp"
#include "ip2p/data/pair_set_writer.hpp"
#include "ip2p/filter/all_of.hpp"
#include "ip2p/filter/candidate_pair.hpp"
#include "ip2p/filter/keep_best.hpp"
#include "ip2p/filter/pixel_change.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/pair_generator.hpp"
#include "ip2p/vision/clip.hpp"
#include "options.hpp"
#include "support/model.hpp"

namespace make_pairs {

/// What became of a prompt.
struct DrawnPairs {
  std::vector<ip2p::CandidatePair> pairs;
  std::vector<ip2p::PairSample> samples;  ///< Of `pairs`, one each.
  ip2p::PairSelection selection;          ///< Counts samples without pictures too.
};

/// The published filter, and before it a test of pixels that saves CLIP's.
inline auto filter_of(const Options& o) {
  return ip2p::AllOf(ip2p::PixelChange{.least = o.least_change()}, ip2p::ImageSimilarity{.least = o.least_image()},
                     ip2p::CaptionSimilarity{.least = o.caption}, ip2p::DirectionalSimilarity{.least = o.direction});
}

/// What metadata.jsonl says of a pair. \param measure whether CLIP is asked where it was not
inline ip2p::PairNumbers numbers_of(const ip2p::CandidatePair& pair, const ip2p::PairSample& sample,
                                    bool measure = true) {
  ip2p::PairNumbers numbers{.seed = sample.seed, .share = sample.share, .text_scale = sample.text_scale};
  if (!measure) return numbers;
  const auto captions = pair.features.captions();
  numbers.caption_before = captions[0];
  numbers.caption_after = captions[1];
  numbers.direction = pair.features.direction();
  numbers.image = pair.features.images();
  return numbers;
}

/// With a share of 0, the pictures of a pair share only their noise.
inline ip2p::PairRanges ranges_of(const Options& o) {
  ip2p::PairRanges ranges{.text_scale_from = o.text_scale_from, .text_scale_to = o.text_scale_to};
  if (o.no_self_replacement) ranges.share_from = ranges.share_to = 0;
  return ranges;
}

/// Makes `DrawnPairs`: a function of the options, the models, the prompt's number and its triplet.
class PairDrawer {
 public:
  PairDrawer(const Options& o, const ip2p::OpenedModel& model, const ip2p::TextToImage& pipeline,
             const ip2p::Clip& clip, ip2p::RunHooks hooks)
      : o_(o),
        model_(model),
        clip_(clip),
        generate_(pipeline, {.steps = o.steps, .size = ip2p::Size{o.side, o.side}, .hooks = std::move(hooks)},
                  {o.noise}) {}

  /// \throws Error when no sample of this process has given pictures yet: then the models are at fault, not
  ///   the samples; Cancelled
  DrawnPairs operator()(std::int64_t prompt, const ip2p::Triplet& triplet) {
    DrawnPairs result;
    auto& counts = result.selection.counts;
    if (nothing_to_find(triplet)) {
      counts.judged = counts.rejected["captions alike"] = o_.samples;
      return result;
    }
    const auto samples = samples_of(prompt);
    for (std::size_t begin = 0; begin < samples.size(); begin += static_cast<std::size_t>(o_.batch)) {
      const auto part =
          std::span(samples).subspan(begin, std::min(samples.size() - begin, static_cast<std::size_t>(o_.batch)));
      auto made = draw(triplet, part);
      for (std::size_t i = 0; i < part.size(); ++i) {
        if (!made[i]) continue;
        result.pairs.push_back(std::move(*made[i]));
        result.samples.push_back(part[i]);
      }
    }
    drawn_ += static_cast<std::int64_t>(samples.size());
    sound_ = sound_ || !result.pairs.empty();
    ip2p::require(sound_, "prompt {}: expected pictures, found none: {}", prompt, problem_);
    result.selection = select(result.pairs, result.samples);
    if (const auto lost = static_cast<std::int64_t>(samples.size() - result.pairs.size()); lost > 0) {
      counts.judged += lost;
      counts.rejected["no picture"] = lost;
    }
    return result;
  }

  /// Samples drawn so far.
  [[nodiscard]] std::int64_t drawn() const { return drawn_; }

 private:
  /// Captions that the models read alike have no direction: all their pairs would be drawn and rejected.
  [[nodiscard]] bool nothing_to_find(const ip2p::Triplet& triplet) const {
    return !o_.no_filter && o_.direction > 0 &&
           model_.tokens(triplet.caption).ids() == model_.tokens(triplet.edited).ids();
  }

  [[nodiscard]] std::vector<ip2p::PairSample> samples_of(std::int64_t prompt) const {
    auto samples = ip2p::pair_samples(o_.seed, static_cast<std::uint64_t>(prompt), 0, o_.samples, ranges_of(o_));
    // Without a filter any pair is as good as another: no more are drawn than are kept.
    if (o_.no_filter) samples.resize(std::min(samples.size(), o_.keep));
    return samples;
  }

  /// One pair for each sample, none where a sample gives no pictures: numbers beyond the dtype, one colour.
  std::vector<std::optional<ip2p::CandidatePair>> draw(const ip2p::Triplet& triplet,
                                                       std::span<const ip2p::PairSample> samples) {
    std::vector<std::optional<ip2p::CandidatePair>> pairs;
    try {
      auto made = ip2p::candidate_pairs(clip_, generate_(triplet.caption, triplet.edited, samples), triplet.caption,
                                        triplet.edited);
      std::move(made.begin(), made.end(), std::back_inserter(pairs));
      return pairs;
    } catch (const ip2p::Cancelled&) {
      throw;
    } catch (const ip2p::OutOfMemory&) {
      throw;
    } catch (const ip2p::Error& error) {
      problem_ = error.what();
    }
    if (samples.size() == 1) {
      pairs.emplace_back();
      return pairs;
    }
    // One bad sample must not lose its neighbours' pictures.
    for (std::size_t i = 0; i < samples.size(); ++i) {
      pairs.push_back(std::move(draw(triplet, samples.subspan(i, 1)).front()));
    }
    return pairs;
  }

  [[nodiscard]] ip2p::PairSelection select(std::span<const ip2p::CandidatePair> pairs,
                                           std::span<const ip2p::PairSample> samples) const {
    if (!o_.no_filter) {
      std::vector<std::uint64_t> seeds;
      for (const auto& sample : samples) seeds.push_back(sample.seed);
      return ip2p::keep_best(pairs, filter_of(o_), o_.keep, seeds);
    }
    ip2p::PairSelection all;
    for (std::size_t i = 0; i < pairs.size(); ++i) all.kept.push_back(i);
    all.counts.judged = all.counts.kept = static_cast<std::int64_t>(pairs.size());
    return all;
  }

  const Options& o_;
  const ip2p::OpenedModel& model_;
  const ip2p::Clip& clip_;
  ip2p::PairGenerator<ip2p::TextToImage, example::NamedNoise> generate_;
  std::int64_t drawn_ = 0;
  bool sound_ = false;
  std::string problem_;
};

}  // namespace make_pairs
