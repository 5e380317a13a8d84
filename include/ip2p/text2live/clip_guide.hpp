#pragma once

/// \file
/// The CLIP features that Text2LIVE compares between pictures and texts.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/autograd.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/text2live/augmentations.hpp"
#include "ip2p/vision/clip.hpp"
#include "ip2p/vision/clip_pixels.hpp"

namespace ip2p {

/// CLIP as a guide: raw projections, the self-similarity of a picture's tokens, and their relevance to a text.
/// Gradients flow to the pictures. Copies share the model.
class ClipGuide {
 public:
  /// Thaws the model, because its calls are differentiated; its weights ask for no gradients.
  /// \param clip its device is where all is computed
  explicit ClipGuide(Clip clip) : clip_(std::move(clip)) {
    auto model = clip_.model();
    model.thaw();
    model.module().set_requires_grad(false);
  }

  /// The model.
  [[nodiscard]] const Clip& clip() const { return clip_; }
  /// Where its weights are.
  [[nodiscard]] at::Device device() const { return clip_.model().device(); }

  /// Side of CLIP's square input in pixels.
  [[nodiscard]] std::int64_t side() const { return clip_.model().config().vision.image_size; }

  /// Size of the views of a picture: shorter side 224 pixels, longer side at most 320, for a CLIP of 224 pixels.
  [[nodiscard]] Size view_size(const Size& picture) const { return fitted(picture, side(), side() * 320 / 224); }

  /// Projections of texts. \return [T, D], fp32  \throws Error for an empty list
  [[nodiscard]] at::Tensor text_features(std::span<const std::string> texts) const {
    require(!texts.empty(), "CLIP guide: texts: expected at least one, found none");
    const at::NoGradGuard no_grad;
    const ClipTextEncoder encoder(clip_.tokenizer(), clip_.model().module().text);
    return clip_.model().project_texts(encoder.ids(texts)).to(at::kFloat);
  }

  /// Projections of views. \param views [V, 3, h, w] in [0, 1], at least one patch in size  \return [V, D], fp32
  [[nodiscard]] at::Tensor features(const at::Tensor& views) const {
    const auto& model = clip_.model();
    return model.project_tokens(model.image_tokens(normalise_for_clip(views))).to(at::kFloat);
  }

  /// Cosines between the tokens of a picture before the last layer, the class token among them. The picture is resized
  /// to a shorter side of 224 pixels and a longer one of at most 380, for a CLIP of 224 pixels.
  /// \param picture [1, 3, H, W] in [0, 1]  \return [1, tokens, tokens], fp32
  [[nodiscard]] at::Tensor self_similarity(const at::Tensor& picture) const {
    const auto seen = bilinear(picture, fitted(size_of(picture), side(), side() * 380 / 224));
    const auto tokens = clip_.model().image_tokens(normalise_for_clip(seen)).to(at::kFloat);
    const auto length = tokens.norm(2, {2}, true);
    return tokens.matmul(tokens.transpose(1, 2)) / length.matmul(length.transpose(1, 2)).clamp_min(1e-8);
  }

  /// Where in a picture CLIP sees a text: the positive part of the class token's attention to the patches in the last
  /// layer times its gradient, averaged over heads (Chefer et al. 2021). The published setting uses only ViT-B/32's
  /// last layer.
  /// \param square [1, 3, side, side] in [0, 1]  \param text [1, D]  \return [1, 1, side, side] from 0 to 1
  [[nodiscard]] at::Tensor relevance(const at::Tensor& square, const at::Tensor& text) const {
    const auto& model = clip_.model();
    const auto& vision = *model.module().vision;
    const auto& layer = *vision.layers.back();
    at::Tensor tokens, keys_and_more, weights;
    {
      const at::NoGradGuard no_grad;
      tokens = model.image_tokens(normalise_for_clip(square));
      keys_and_more = layer.queries_keys_values(tokens);
      const double scale = 1.0 / std::sqrt(static_cast<double>(keys_and_more.size(-1)));
      weights = at::softmax(keys_and_more[0].matmul(keys_and_more[1].transpose(-1, -2)) * scale, -1);
    }
    at::Tensor gradient;
    {
      const at::AutoGradMode with_gradients(true);
      weights.set_requires_grad(true);
      const auto last = layer.after_attention(tokens, weights.matmul(keys_and_more[2]));
      const auto projected = model.project_last(last).to(at::kFloat);
      const auto cosine = (projected * text).sum() / (projected.norm() * text.norm());
      gradient = detail::gradients_of(cosine * model.scale().detach(), {weights}).front();
    }
    const at::NoGradGuard no_grad;
    const auto pulled = (gradient * weights).clamp_min(0).mean(1).to(at::kFloat);  // [1, tokens, tokens]
    const auto patches = pulled.select(1, 0).narrow(1, 1, pulled.size(2) - 1);
    const auto grid = side() / model.config().vision.patch_size;
    const auto map = bilinear(patches.reshape({1, 1, grid, grid}), {side(), side()});
    const auto least = map.min();
    return (map - least) / (map.max() - least).clamp_min(1e-30);
  }

 private:
  Clip clip_;
};

}  // namespace ip2p
