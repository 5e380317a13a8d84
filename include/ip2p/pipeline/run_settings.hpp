#pragma once

/// \file
/// Settings that every run takes, whatever the pipeline.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ip2p/core/progress.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/numerics.hpp"

namespace ip2p {

/// Settings of one run, the same for all pipelines. Unset values come from the pipeline's `defaults`, which hold the
/// model's own recommendations if `open_editor` or a sibling opened it. A pipeline's `completed()` shows the result.
struct RunSettings {
  std::optional<std::int64_t> steps = {};  ///< Sampler steps, >= 1; for SDEdit those of the full schedule.
  std::uint64_t seed = 42;                 ///< Picture i of a batch draws its noise from seed + i.
  std::vector<std::uint64_t> seeds = {};   ///< One per picture, instead of `seed`; may be empty.
  std::string negative_prompt = {};        ///< Replaces the empty text in branches without text.
  /// Long side in pixels to which photographs are resized; see `edit_size`.
  std::optional<std::int64_t> resolution = {};
  /// Size in pixels of a picture generated from text alone, sides multiples of the codec's `downscale()`; unset: a
  /// square of `resolution`.
  std::optional<Size> size = {};
  std::optional<Numerics> numerics = {};  ///< Size rule of photographs and rounding of pixels.
  /// Start noise of unit variance, [B,C,h,w]; drawn from the seeds when undefined. The draw that it replaces is still
  /// consumed, so passing a seed's own start noise with that seed gives the same picture.
  at::Tensor latents = {};
  RunHooks hooks = {};  ///< Progress, cancellation and changes between steps.
};

/// Values for what a run's settings leave unset.
struct RunDefaults {
  std::int64_t steps = 50;  ///< Steps of a run, >= 1.
  /// Long side in pixels; unset: 512 for `Numerics::released`, the photograph's own for `Numerics::diffusers`.
  std::optional<std::int64_t> resolution = {};
  Numerics numerics = Numerics::released;  ///< The published program whose size rule and rounding apply.
};

/// `settings` with unset values taken from `defaults`. (The resolution stays unset if both leave it so.)
inline RunSettings completed(RunSettings settings, const RunDefaults& defaults) {
  if (!settings.steps) settings.steps = defaults.steps;
  if (!settings.resolution) settings.resolution = defaults.resolution;
  if (!settings.numerics) settings.numerics = defaults.numerics;
  return settings;
}

/// Size of a picture generated from text alone: `size`, or a square of `resolution`, or of 512 pixels.
inline Size picture_size(const RunSettings& settings) {
  const auto side = settings.resolution.value_or(512);
  return settings.size.value_or(Size{side, side});
}

}  // namespace ip2p
