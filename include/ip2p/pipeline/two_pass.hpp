#pragma once

/// \file
/// Pictures larger than those a model was trained on: a small one first, then its enlargement redrawn.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Numbers of the second pass.
struct TwoPassOptions {
  double factor = 2.0;      ///< Enlargement of both sides, > 1; sides are rounded down to what the codec can hold.
  double strength = 0.6;    ///< Share of the steps that redraw the enlargement; see `SdEditOptions`.
  std::int64_t steps = 50;  ///< Of the second pass' whole schedule.
  Filter filter = Filter::lanczos;
};

/// Text to image in two passes: the first decides the layout at the model's own size, the second draws detail over the
/// enlarged picture by SDEdit. A model asked for the large size at once repeats its subjects.
/// \param pipeline a `TextToImagePipeline`  \param options of the first pass; its seed and hooks serve both
/// \throws Error as both passes do
template <class Pipeline>
[[nodiscard]] Image two_pass(Pipeline& pipeline, const std::string& prompt, const TextToImageOptions& options = {},
                             const TwoPassOptions& second = {}) {
  require(second.factor > 1.0 && second.factor <= 8.0, "two_pass: expected a factor in (1, 8], found {}",
          second.factor);
  const auto f = pipeline.codec().downscale();
  const auto enlarged = [&](std::int64_t side) {
    return static_cast<std::int64_t>(static_cast<double>(side) * second.factor) / f * f;
  };
  const auto small = pipeline(prompt, options);
  const auto large = resize(small, enlarged(small.width), enlarged(small.height), second.filter);
  TorchNoise noise(options.seed);
  const auto clean = pipeline.clean_latents(images_to_tensor({&large, 1}));
  const SdEditOptions redraw{.strength = second.strength,
                             .steps = second.steps,
                             .negative_prompt = options.negative_prompt,
                             .numerics = options.numerics,
                             .hooks = options.hooks};
  const auto schedule = default_schedule(options.numerics, pipeline.scheduler);
  const auto latents = sdedit_latents(pipeline, clean, {&prompt, 1}, redraw, schedule, noise);
  return pipeline.decode(latents, options.numerics).front();
}

}  // namespace ip2p
