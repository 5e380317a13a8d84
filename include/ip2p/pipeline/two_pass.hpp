#pragma once

/// \file
/// Generates pictures larger than a model was trained on: first a small one, then an enlarged and redrawn version.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Options of the second pass.
struct TwoPassOptions {
  double factor = 2.0;    ///< Enlargement of both sides, in (1, 8]; rounded down to multiples that the codec supports.
  double strength = 0.6;  ///< Fraction of the steps to run on the enlargement; see `SdEditOptions`.
  std::optional<std::int64_t> steps = {};  ///< Of the second pass's full schedule; unset: as in the first.
  Filter filter = Filter::lanczos;         ///< With which the picture is enlarged.
};

/// The size of the second pass. \param small size of the first  \throws Error for a factor out of range
template <class Pipeline>
[[nodiscard]] Size enlarged_size(const Pipeline& pipeline, Size small, const TwoPassOptions& second) {
  require(second.factor > 1.0 && second.factor <= 8.0, "two_pass: expected a factor in (1, 8], found {}",
          second.factor);
  const auto f = pipeline.codec().downscale();
  const auto enlarged = [&](std::int64_t side) {
    return static_cast<std::int64_t>(static_cast<double>(side) * second.factor) / f * f;
  };
  return {enlarged(small.width), enlarged(small.height)};
}

/// Text-to-image in two passes: the first determines the layout at the model's own size, the second adds detail to the
/// enlarged picture with SDEdit. Models that generate the large size directly tend to repeat their subjects.
/// \param pipeline a `TextToImagePipeline`  \param settings of the first pass; all but size and latents apply to both
/// \param make_noise makes a noise source from the seeds of a batch; each pass starts a new one with the same seeds
/// \throws Error as both passes do
template <class Pipeline, class MakeNoise = std::remove_const_t<decltype(torch_noise)>>
[[nodiscard]] Image two_pass(const Pipeline& pipeline, const std::string& prompt, const RunSettings& settings = {},
                             const TwoPassOptions& second = {}, const MakeNoise& make_noise = {}) {
  static_cast<void>(enlarged_size(pipeline, {}, second));  // a wrong factor before the work
  const auto seeds = seeds_for(1, settings.seed, settings.seeds);
  auto first_noise = make_noise(seeds);
  const auto small = pipeline.run({&prompt, 1}, settings, first_noise).images.front();
  const auto size = enlarged_size(pipeline, {small.width, small.height}, second);
  const auto large = resize(small, size.width, size.height, second.filter);
  auto options = pipeline.completed(settings);
  if (second.steps) options.steps = second.steps;
  options.latents = at::Tensor();
  auto noise = make_noise(seeds);
  const auto clean = pipeline.clean_latents(images_to_tensor({&large, 1}));
  const auto latents = sdedit_latents(pipeline, clean, {&prompt, 1}, second.strength, options, noise);
  return pipeline.decode(latents, rounding_of(*options.numerics)).front();
}

}  // namespace ip2p
