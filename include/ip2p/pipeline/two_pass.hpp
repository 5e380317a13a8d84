#pragma once

/// \file
/// Pictures larger than those a model was trained on: a small one first, then its enlargement redrawn.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Numbers of the second pass.
struct TwoPassOptions {
  double factor = 2.0;    ///< Enlargement of both sides, > 1; sides are rounded down to what the codec can hold.
  double strength = 0.6;  ///< Share of the steps that redraw the enlargement; see `SdEditOptions`.
  std::optional<std::int64_t> steps = {};  ///< Of the second pass' whole schedule; unset: as many as the first has.
  Filter filter = Filter::lanczos;         ///< With which the picture is enlarged.
};

/// Text to image in two passes: the first decides the layout at the model's own size, the second draws detail over the
/// enlarged picture by SDEdit. A model asked for the large size at once repeats its subjects.
/// \param pipeline a `TextToImagePipeline`  \param settings of the first pass; all but size and latents serve both
/// \param make_noise gives, for the seeds of a batch, a noise source; each pass begins one of the same seed
/// \throws Error as both passes do
template <class Pipeline, class MakeNoise = std::remove_const_t<decltype(torch_noise)>>
[[nodiscard]] Image two_pass(const Pipeline& pipeline, const std::string& prompt, const RunSettings& settings = {},
                             const TwoPassOptions& second = {}, const MakeNoise& make_noise = {}) {
  require(second.factor > 1.0 && second.factor <= 8.0, "two_pass: expected a factor in (1, 8], found {}",
          second.factor);
  const auto f = pipeline.codec().downscale();
  const auto enlarged = [&](std::int64_t side) {
    return static_cast<std::int64_t>(static_cast<double>(side) * second.factor) / f * f;
  };
  const auto seeds = seeds_for(1, settings.seed, settings.seeds);
  auto first_noise = make_noise(seeds);
  const auto small = pipeline.run({&prompt, 1}, settings, first_noise).images.front();
  const auto large = resize(small, enlarged(small.width), enlarged(small.height), second.filter);
  auto options = pipeline.completed(settings);
  if (second.steps) options.steps = second.steps;
  options.latents = at::Tensor();
  auto noise = make_noise(seeds);
  const auto clean = pipeline.clean_latents(images_to_tensor({&large, 1}));
  const auto latents = sdedit_latents(pipeline, clean, {&prompt, 1}, second.strength, options, noise);
  return pipeline.decode(latents, rounding_of(*options.numerics)).front();
}

}  // namespace ip2p
