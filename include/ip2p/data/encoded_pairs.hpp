#pragma once

/// \file
/// Training pairs from pictures, augmented and encoded on the fly.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/data/augment.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/data/picture_pairs.hpp"

namespace ip2p {

/// An image codec that returns the posterior over latents, as `KlAutoencoder` does: images [B,3,H,W] in [-1,1] to mean
/// and log variance, each [B,C,h,w].
template <class Codec>
concept PosteriorCodec = requires(const Codec& codec, const at::Tensor& images) {
  { codec.encode_moments(images).mean } -> std::convertible_to<at::Tensor>;
  { codec.encode_moments(images).logvar } -> std::convertible_to<at::Tensor>;
};

/// Stops compilation with one sentence unless `Codec` is a `PosteriorCodec`.
template <class Codec>
consteval void require_posterior_codec() {
  static_assert(PosteriorCodec<Codec>,
                "ip2p: PosteriorCodec needs `encode_moments(Tensor) const` whose result has tensors `mean` and "
                "`logvar`; see docs/reference/concepts.md#posteriorcodec");
}

namespace detail {

/// Encodes both pictures of a pair for training, fp32 where the codec computes: on a GPU nothing waits for them. May be
/// called from several threads.
template <class Codec>
class PairEncoder {
  static_assert((require_posterior_codec<Codec>(), true));

 public:
  explicit PairEncoder(Codec codec) : codec_(std::move(codec)) {}

  EditPair operator()(const PreparedPair& pair, std::string instruction) const {
    const at::NoGradGuard no_grad;
    const auto moments = codec_.encode_moments(at::stack({pair.before, pair.after}));
    const auto own = [](const at::Tensor& batch, std::int64_t n) {
      return batch.select(0, n).to(at::kFloat).clone(at::MemoryFormat::Contiguous);
    };
    return {own(moments.mean, 1), own(moments.logvar, 1), own(moments.mean, 0), std::move(instruction)};
  }

 private:
  Codec codec_;
};

}  // namespace detail

/// A `PairSource` over pictures, following the released recipe: picks one of the prompt's pairs at random, augments it
/// and encodes it. `get` may be called from several threads.
template <class Source, class Codec>
class EncodedPairs {
  static_assert((require_picture_source<Source>(), require_posterior_codec<Codec>(), true));

 public:
  /// \param pictures kept by reference
  EncodedPairs(Source& pictures, Codec codec, PairAugmentation augmentation = {})
      : pictures_(&pictures), encode_(std::move(codec)), augmentation_(augmentation) {
    augmentation_.validate();
  }

  /// Prompts of the picture source.
  [[nodiscard]] std::int64_t size() const { return pictures_->size(); }

  /// Latents of a pair of prompt `i`, drawn and augmented. \throws Error as the picture source and the codec
  [[nodiscard]] EditPair get(std::int64_t i, SampleRandom& random) const {
    PairPictures pictures = pictures_->get(i, random);
    return encode_(augmentation_(pictures, random), std::move(pictures.instruction));
  }

 private:
  Source* pictures_;
  detail::PairEncoder<Codec> encode_;
  PairAugmentation augmentation_;
};

}  // namespace ip2p
