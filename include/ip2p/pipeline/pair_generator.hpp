#pragma once

/// \file
/// Generates image pairs for a pair of captions, the central stage of InstructPix2Pix's data engine (Brooks et al.
/// 2023, section 3.1.2).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ip2p/attention/self_replace.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/guidance/per_image_text_guidance.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// Random parameters of one pair.
struct PairSample {
  std::uint64_t seed = 0;   ///< Of the pair's noise.
  double share = 0.5;       ///< Fraction of the run in which both images share self-attention (p of the paper).
  double text_scale = 7.5;  ///< Classifier-free guidance scale of both images.
  friend bool operator==(const PairSample&, const PairSample&) = default;
};

/// Ranges of those parameters. The defaults are the paper's.
struct PairRanges {
  double share_from = 0.1, share_to = 0.9;             ///< Of `PairSample::share`.
  double text_scale_from = 7.5, text_scale_to = 15.0;  ///< Of `PairSample::text_scale`.
};

/// Samples `first` ... `first + count - 1` of prompt `prompt`. Each depends only on (seed, prompt, sample), so results
/// agree across machines, batches and restarts. Samples of a prompt have distinct seeds, after which files are named:
/// one whose seed an earlier sample has draws another, as the released program does from its one stream.
inline std::vector<PairSample> pair_samples(std::uint64_t seed, std::uint64_t prompt, std::int64_t first,
                                            std::int64_t count, const PairRanges& ranges = {}) {
  std::vector<PairSample> samples;
  std::unordered_set<std::uint64_t> known;
  for (std::int64_t i = 0; i < first + count; ++i) {
    SampleRandom random(seed, prompt, static_cast<std::uint64_t>(i));
    PairSample sample;
    do {
      // 32 bits, as in the released file names.
      sample.seed = static_cast<std::uint64_t>(random.below(std::int64_t{1} << 32));
    } while (!known.insert(sample.seed).second);
    if (i < first) continue;
    sample.share = random.uniform(ranges.share_from, ranges.share_to);
    sample.text_scale = random.uniform(ranges.text_scale_from, ranges.text_scale_to);
    samples.push_back(sample);
  }
  return samples;
}

/// Makes the noise of a run's pairs from their seeds; each pair's noise depends only on its seed.
inline constexpr auto counter_noise = [](const std::vector<std::uint64_t>& seeds) { return CounterNoise(seeds); };

/// Generates pairs of images of one scene before and after an edit.
///
/// Both images of a pair share start noise and ancestral noise, and during the first `share` of the steps the
/// self-attention of the first image (`SelfReplace`). Samples run as one batch; a pair does not depend on the others.
///
/// `MakeNoise` makes a noise source with one sample per seed from the seeds of a batch.
template <class Pipeline, class MakeNoise = std::remove_const_t<decltype(counter_noise)>>
class PairGenerator {
 public:
  /// \param pipeline a `TextToImagePipeline`, which must outlive the generator; its guidance is not used
  /// \param settings steps, size, numerics and hooks of every run; the published values are 100 steps and 512 x 512
  ///   pixels
  explicit PairGenerator(const Pipeline& pipeline, RunSettings settings = {.steps = 100}, MakeNoise make_noise = {})
      : pipeline_(pipeline), settings_(pipeline.completed(std::move(settings))), make_noise_(std::move(make_noise)) {}

  /// Latents of S pairs, [2S,C,h,w]: rows 2i and 2i + 1 are pair i before and after.
  /// \throws Error for no samples and as the pipeline does; Cancelled
  [[nodiscard]] at::Tensor latents(const std::string& caption, const std::string& edited,
                                   std::span<const PairSample> samples) const {
    require(!samples.empty(), "PairGenerator: expected at least one sample, found none");
    std::vector<std::string> prompts;
    std::vector<std::uint64_t> seeds;
    PerImageTextGuidance guidance;
    SelfReplace attention;
    for (const auto& sample : samples) {
      seeds.push_back(sample.seed);
      attention.shares.push_back(sample.share);
      for (const auto& prompt : {caption, edited}) {
        prompts.push_back(prompt);
        guidance.text_scales.push_back(sample.text_scale);
      }
    }
    auto source = make_noise_(seeds);
    SharedNoise<decltype(source)&> noise(source, 2);
    const auto& schedule = pipeline_.diffusion.schedule;
    const auto sigmas = schedule.sigmas(*settings_.steps);
    const auto shape = pipeline_.latent_shape(static_cast<std::int64_t>(prompts.size()), picture_size(settings_));
    const auto start = noise.normal(shape, 0).mul(initial_sigma(schedule, sigmas));
    return pipeline_.denoise(start, sigmas, pipeline_.encode_text(prompts), noise, settings_.hooks, attention,
                             guidance);
  }

  /// Pictures of S pairs, alternating before and after. \throws Error as `latents` does
  [[nodiscard]] std::vector<Image> operator()(const std::string& caption, const std::string& edited,
                                              std::span<const PairSample> samples) const {
    return pipeline_.decode(latents(caption, edited, samples), rounding_of(*settings_.numerics));
  }

 private:
  const Pipeline& pipeline_;
  RunSettings settings_;
  MakeNoise make_noise_;
};

}  // namespace ip2p
