#pragma once

/// \file
/// What every run is told, whatever the pipeline.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ip2p/core/progress.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/numerics.hpp"

namespace ip2p {

/// Settings of one run, the same for all pipelines. What is unset is what the pipeline's `defaults` say: the model's
/// own recommendation where the model was opened by `open_editor` and its siblings. `completed()` of a pipeline shows
/// them.
struct RunSettings {
  std::optional<std::int64_t> steps = {};  ///< Evaluations of the denoiser, >= 1; of SDEdit's whole schedule.
  std::uint64_t seed = 42;                 ///< Picture i of a batch draws its noise from seed + i.
  std::vector<std::uint64_t> seeds = {};   ///< One per picture instead of `seed`; may be empty.
  std::string negative_prompt = {};        ///< Stands for the empty text in the branches without text.
  /// Long side in pixels of a photograph as it is worked on; see `edit_size`.
  std::optional<std::int64_t> resolution = {};
  /// Size in pixels of a picture that is drawn from text alone, sides multiples of the codec's `downscale()`; unset: a
  /// square of `resolution`.
  std::optional<Size> size = {};
  std::optional<Numerics> numerics = {};  ///< Size rule of photographs and rounding of pixels.
  /// Start noise of unit variance, [B,C,h,w]; drawn from the seeds when undefined. The draw that it replaces is taken
  /// from the noise source all the same: the start noise of a seed, given back with that seed, gives the same picture.
  at::Tensor latents = {};
  RunHooks hooks = {};  ///< Progress, cancellation, changes between steps.
};

/// What a run does where its settings are silent.
struct RunDefaults {
  std::int64_t steps = 50;  ///< Steps of a run, >= 1.
  /// Long side in pixels; unset: 512 for `Numerics::released`, the photograph's own for `Numerics::diffusers`.
  std::optional<std::int64_t> resolution = {};
  Numerics numerics = Numerics::released;  ///< The published program whose size rule and rounding apply.
};

/// `settings` with `defaults` in the place of what is unset. (The resolution stays unset where both are silent.)
inline RunSettings completed(RunSettings settings, const RunDefaults& defaults) {
  if (!settings.steps) settings.steps = defaults.steps;
  if (!settings.resolution) settings.resolution = defaults.resolution;
  if (!settings.numerics) settings.numerics = defaults.numerics;
  return settings;
}

/// Size of a picture that is drawn from text alone: `size`, or a square of `resolution`, or of 512 pixels.
inline Size picture_size(const RunSettings& settings) {
  const auto side = settings.resolution.value_or(512);
  return settings.size.value_or(Size{side, side});
}

}  // namespace ip2p
