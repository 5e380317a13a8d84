#pragma once

/// \file
/// CLIP with its tokenizer and picture preprocessing: unit feature vectors, to be compared by cosine similarity.

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "ip2p/filter/candidate_pair.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/vision/clip_model.hpp"
#include "ip2p/vision/clip_pixels.hpp"

namespace ip2p {

/// Maps pictures and texts to unit vectors in one space. Copies share the model.
class Clip {
 public:
  using Network = ClipModel;  ///< What `load<Clip>` loads beside the tokenizer.

  /// \throws Error when the tokenizer can produce ids or lengths that the model has no embedding for
  Clip(BpeTokenizer tokenizer, ClipModel model, ClipView view = ClipView::released)
      : model_(std::move(model)), texts_(std::move(tokenizer), model_.module().text), view_(view) {}

  /// \param pictures of any sizes  \return [B, projection_dim] of length 1, fp32
  [[nodiscard]] at::Tensor image_features(std::span<const Image> pictures) const {
    return unit(model_.project_images(clip_pixels(pictures, side(), view_)));
  }

  /// Differentiable; always uses `ClipView::released`. \param images [B, 3, H, W] in [-1, 1]
  [[nodiscard]] at::Tensor image_features(const at::Tensor& images, ClipRange range = ClipRange::correct) const {
    const auto seen = range == ClipRange::correct ? images.add(1).div(2).clamp(0, 1) : images;
    return unit(model_.project_images(released_clip_pixels(seen, side())));
  }

  /// \return [B, projection_dim] of length 1, fp32  \throws Error for an empty list
  [[nodiscard]] at::Tensor text_features(std::span<const std::string> texts) const {
    require(!texts.empty(), "Clip: texts: expected at least one, found none");
    return unit(model_.project_texts(texts_.ids(texts)));
  }

  /// Both towers; copies share their weights.
  [[nodiscard]] const ClipModel& model() const { return model_; }
  /// The text tower's tokenizer.
  [[nodiscard]] const BpeTokenizer& tokenizer() const { return texts_.tokenizer(); }

  /// The same model with a different preprocessing of pictures.
  [[nodiscard]] Clip with_view(ClipView view) const {
    Clip other = *this;
    other.view_ = view;
    return other;
  }

  /// Moves and converts the model's weights in place.
  void to(at::Device device, at::ScalarType dtype) { model_.to(device, dtype); }
  /// Moves the model's weights in place, without converting them.
  void to(at::Device device) { model_.to(device); }
  /// Converts the model's weights in place, wherever they are.
  void to(at::ScalarType dtype) { model_.to(dtype); }

 private:
  [[nodiscard]] std::int64_t side() const { return model_.config().vision.image_size; }

  static at::Tensor unit(const at::Tensor& projected) {
    const auto x = projected.to(at::kFloat);
    return x / x.norm(2, {1}, true);
  }

  ClipModel model_;
  ClipTextEncoder texts_;
  ClipView view_;
};
static_assert(ImageTextEmbedder<Clip>);

}  // namespace ip2p
