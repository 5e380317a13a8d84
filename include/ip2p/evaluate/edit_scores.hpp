#pragma once

/// \file
/// The CLIP metrics of instructed edits (`compute_metrics.py` of InstructPix2Pix). The paper's plots show image
/// similarity over directional similarity.

#include <span>
#include <string>

#include "ip2p/filter/similarity.hpp"
#include "ip2p/vision/clip.hpp"

namespace ip2p {

/// One value per edit, [B] each, fp32.
struct EditScores {
  at::Tensor direction;    ///< Directional similarity: how well the change of the picture matches that of the captions.
  at::Tensor image;        ///< Cosine of the two pictures: how much of the photograph is preserved.
  at::Tensor text_before;  ///< Cosine of the photograph with its caption.
  at::Tensor text_after;   ///< Cosine of the edited picture with its caption.
};

/// Scores from unit features, [B, D] each. \throws Error for different shapes
inline EditScores edit_scores(const at::Tensor& image_before, const at::Tensor& image_after,
                              const at::Tensor& text_before, const at::Tensor& text_after) {
  return {directional_similarity(image_before, image_after, text_before, text_after),
          feature_similarity(image_before, image_after), feature_similarity(image_before, text_before),
          feature_similarity(image_after, text_after)};
}

/// Scores from pictures and captions. \param before, after [B, 3, H, W] in [-1, 1]  \param input, output captions, B of
/// each
/// \param range `ClipRange::compat` reproduces the released evaluation, `correct` uses the range that CLIP was trained
///   on
inline EditScores edit_scores(const Clip& clip, const at::Tensor& before, const at::Tensor& after,
                              std::span<const std::string> input, std::span<const std::string> output,
                              ClipRange range = ClipRange::correct) {
  return edit_scores(clip.image_features(before, range), clip.image_features(after, range), clip.text_features(input),
                     clip.text_features(output));
}

}  // namespace ip2p
