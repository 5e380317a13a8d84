#pragma once

/// \file
/// Trains a CLIP model on pictures with captions (Radford et al. 2021, figure 3).

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/data/epoch_orders.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/vision/clip_model.hpp"

namespace ip2p {

/// Symmetric cross-entropy over all pairings of a batch: row i of one belongs to row i of the other.
/// \param images, texts [B, D], need not be normalised  \param scale factor from cosines to logits  \return scalar
/// \throws Error for different shapes
inline at::Tensor contrastive_loss(const at::Tensor& images, const at::Tensor& texts, const at::Tensor& scale) {
  require(images.dim() == 2 && images.sizes() == texts.sizes(),
          "contrastive loss: expected pictures and texts of one shape [B, D], found {} and {}",
          shape_text(images.sizes()), shape_text(texts.sizes()));
  const auto unit = [](const at::Tensor& x) { return x / x.norm(2, {1}, true); };
  const auto logits = scale * unit(texts).matmul(unit(images).t());
  const auto own = at::arange(logits.size(0), logits.options().dtype(at::kLong));
  return (at::cross_entropy_loss(logits, own) + at::cross_entropy_loss(logits.t(), own)) / 2;
}

/// A picture with its caption.
struct CaptionedPixels {
  at::Tensor pixels;  ///< [3, S, S], normalised (vision/clip_pixels.hpp).
  std::string caption;
};

/// A collection of `size()` captioned pictures with access by index.
///
///     std::int64_t size();
///     ip2p::CaptionedPixels get(std::int64_t i, ip2p::SampleRandom& random);   // random: crops, choice of the caption
///
/// Law: `get` is a function of i and of the numbers it draws.
template <class Source>
concept CaptionedSource = requires(Source& source, std::int64_t i, SampleRandom& random) {
  { source.size() } -> std::convertible_to<std::int64_t>;
  { source.get(i, random) } -> std::convertible_to<CaptionedPixels>;
};

/// Settings of `ContrastiveLoss`.
struct ContrastiveLossOptions {
  std::int64_t batch = 256;      ///< Pictures an update, at least 2.
  std::uint64_t seed = 0;        ///< Of order and free choices.
  double largest_scale = 100.0;  ///< Before each update the logit scale is clamped to its logarithm.
};

/// The loss of update `step`, for a `Trainer` of the parameters of `model.module()`. Order and random choices are
/// functions of (seed, step, sample). All pairings of a batch count, so it cannot be split.
template <CaptionedSource Source>
class ContrastiveLoss {
 public:
  /// \param source kept by reference
  /// \throws Error for a batch below 2 or above the source's size, and when the tokenizer does not fit the model
  ContrastiveLoss(ClipModel model, BpeTokenizer tokenizer, Source& source, ContrastiveLossOptions options = {})
      : model_(std::move(model)),
        texts_(std::move(tokenizer), model_.module().text),
        source_(&source),
        options_(options),
        orders_(options.seed) {
    require(options.batch >= 2 && options.batch <= static_cast<std::int64_t>(source.size()),
            "contrastive loss: expected a batch of 2 to {} pictures, found {}", std::int64_t{source.size()},
            options.batch);
    require(options.largest_scale > 0, "contrastive loss: expected a positive largest scale, found {}",
            options.largest_scale);
  }

  /// Loss of update `step` as a scalar with its graph; all pairings of its batch.
  [[nodiscard]] at::Tensor operator()(std::int64_t step) const {
    {
      const at::NoGradGuard no_grad;
      auto scale = model_.module().logit_scale;
      scale.clamp_max_(std::log(options_.largest_scale));
    }
    std::vector<at::Tensor> pixels;
    std::vector<std::string> captions;
    const std::int64_t size = source_->size();
    for (std::int64_t sample = 0; sample < options_.batch; ++sample) {
      const auto drawn = step * options_.batch + sample;
      SampleRandom random(options_.seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(sample));
      CaptionedPixels one = source_->get(orders_.item(drawn, size), random);
      pixels.push_back(std::move(one.pixels));
      captions.push_back(std::move(one.caption));
    }
    const auto pictures = detail::to_device(at::stack(pixels), model_.device());
    return contrastive_loss(model_.project_images(pictures), model_.project_texts(texts_.ids(captions)),
                            model_.scale());
  }

 private:
  ClipModel model_;
  ClipTextEncoder texts_;
  Source* source_;
  ContrastiveLossOptions options_;
  EpochOrders orders_;
};

}  // namespace ip2p
