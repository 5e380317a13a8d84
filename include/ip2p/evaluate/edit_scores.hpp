#pragma once

/// \file
/// The CLIP metrics of instructed edits (`compute_metrics.py` of InstructPix2Pix), of which its plots show direction
/// over image.

#include <span>
#include <string>

#include "ip2p/filter/similarity.hpp"
#include "ip2p/vision/clip.hpp"

namespace ip2p {

/// One value an edit, [B] each, fp32.
struct EditScores {
  at::Tensor direction;    ///< Directional similarity: did the picture change as the captions did?
  at::Tensor image;        ///< Cosine of the two pictures: how much of the photograph is left?
  at::Tensor text_before;  ///< Cosine of the photograph with its caption.
  at::Tensor text_after;   ///< Cosine of the edited picture with its caption.
};

/// From unit features, [B, D] each. \throws Error for unlike shapes
inline EditScores edit_scores(const at::Tensor& image_before, const at::Tensor& image_after,
                              const at::Tensor& text_before, const at::Tensor& text_after) {
  return {directional_similarity(image_before, image_after, text_before, text_after),
          feature_similarity(image_before, image_after), feature_similarity(image_before, text_before),
          feature_similarity(image_after, text_after)};
}

/// \param before, after [B, 3, H, W] in [-1, 1]  \param input, output captions, B of each
/// \param range `ClipRange::compat` gives the numbers of the released evaluation, `correct` what CLIP was trained for
inline EditScores edit_scores(const Clip& clip, const at::Tensor& before, const at::Tensor& after,
                              std::span<const std::string> input, std::span<const std::string> output,
                              ClipRange range = ClipRange::correct) {
  return edit_scores(clip.image_features(before, range), clip.image_features(after, range), clip.text_features(input),
                     clip.text_features(output));
}

}  // namespace ip2p
