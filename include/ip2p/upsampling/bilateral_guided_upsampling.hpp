#pragma once

/// \file
/// Bilateral guided upsampling (Chen, Adams, Wadhwa and Hasinoff 2016) of an edit.

#include <cstdint>
#include <span>
#include <vector>

#include "ip2p/upsampling/bilateral_grid.hpp"
#include "ip2p/upsampling/concepts.hpp"

namespace ip2p {

/// What was learned of an edit: how colours change, and where that does not explain the edited picture.
struct LearnedEdit {
  BilateralGrid maps;  ///< Changes of colours, over the part that the model saw.
  /// [height][width] of `after`: 0 where the maps explain the edit, 1 where the model drew something else.
  std::vector<float> doubt;
  Image after;  ///< The edited picture.
  Box seen;     ///< The part that the model saw.
};

/// Learns how the edit changes colours, by place and tone, and changes the photograph's own pixels in that way, so
/// their detail remains. Where the edited picture holds something that no change of colours explains (a new object,
/// a moved edge) the enlarged edit is taken instead.
///
/// Maps from the codec's round trip to the edit are fitted in three passes, from one map for the whole picture to a
/// fine grid, each to what the passes before leave: where a pass finds too little contrast to go by, the coarser maps
/// hold. (Maps that are held back towards "no change" instead lose 2 dB.) The distance of the edited picture from what
/// the maps give is compared with the codec's own error; where it is larger, the fit is repeated without these pixels.
/// Beyond what the model saw, the maps of the edge continue, and soon nothing is taken from the enlarged edit.
struct BilateralGuidedUpsampling {
  /// Of the fine grid along the longer side, >= 4, rounded to a multiple of 4; the coarse grid has a quarter.
  std::int64_t cells = 16;
  std::int64_t tones = 16;       ///< Nodes from black to white, >= 1.
  double regularisation = 1e-3;  ///< Of the fine grid; see `GridFit`.
  /// Mean square error at which doubt begins and is complete, relative to the codec's.
  double doubt_from = 2, doubt_to = 6;

  /// The edited photograph. The fit runs in one thread, the pixels in all of them; beside the result, hardly any memory
  /// is used. \throws Error as `require_model_edit`, and for members out of range
  Image operator()(const Image& photo, const ModelEdit& edit) const { return apply(photo, learn(photo, edit)); }

  /// The first half: learns the edit. \throws Error as above
  [[nodiscard]] LearnedEdit learn(const Image& photo, const ModelEdit& edit) const;

  /// The second half: the edited photograph. `photo` may be another version of the one that was learned from, as long
  /// as it has its size. \throws Error for an inconsistent photograph
  [[nodiscard]] static Image apply(const Image& photo, const LearnedEdit& learned);

 private:
  /// 1 where the model was free to edit, 0 elsewhere.
  static std::vector<float> inside_of(const ModelEdit& edit, std::int64_t width, std::int64_t height);

  static float square_error(std::span<const float> a, std::span<const float> b, std::size_t pixel);

  /// Means over windows of 2 radius + 1 pixels a side, as far as they lie in the picture.
  static void smooth(std::vector<float>& values, std::int64_t width, std::int64_t height, std::int64_t radius);

  /// The maps from `before` to `after`.
  [[nodiscard]] BilateralGrid fit(std::span<const float> before, std::span<const float> after,
                                  std::span<const float> weight, std::int64_t width, std::int64_t height) const;

  /// How far the edited picture is from what the maps give, against the codec's error.
  [[nodiscard]] std::vector<float> doubt_of(const BilateralGrid& maps, std::span<const float> before,
                                            std::span<const float> after, std::span<const float> codec_error,
                                            std::span<const float> inside, std::int64_t width, std::int64_t height,
                                            std::int64_t radius) const;
};
static_assert(UpsamplingPolicy<BilateralGuidedUpsampling>);

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else they are linked
#include "ip2p/upsampling/bilateral_guided_upsampling_definitions.hpp"
#endif
