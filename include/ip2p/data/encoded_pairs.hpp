#pragma once

/// \file
/// Training pairs from pictures, augmented and encoded on the fly.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
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
    const auto moments = moments_of({pair.before, pair.after});
    const auto own = [](const at::Tensor& batch, std::int64_t n) {
      return batch.select(0, n).to(at::kFloat).clone(at::MemoryFormat::Contiguous);
    };
    return {own(moments.mean, 1), own(moments.logvar, 1), own(moments.mean, 0), std::move(instruction)};
  }

  /// Whether `all` encodes several pairs at once: where the codec computes on a GPU, which two pictures hardly occupy.
  /// On a CPU nothing would be gained, and a pair's bits would depend on those beside it.
  [[nodiscard]] bool batches() const {
    if constexpr (requires { codec_.device(); }) return !codec_.device().is_cpu();
    return false;
  }

  /// Encodes pairs of one size with as many instructions.
  std::vector<EditPair> all(const std::vector<PreparedPair>& pairs,
                            const std::vector<std::string>& instructions) const {
    return batches() ? together(pairs, instructions) : one_by_one(pairs, instructions);
  }

  /// `all` with several pairs in one call of the codec; the latents of a call share memory.
  std::vector<EditPair> together(const std::vector<PreparedPair>& pairs,
                                 const std::vector<std::string>& instructions) const {
    const at::NoGradGuard no_grad;
    constexpr std::int64_t most_pixels = std::int64_t{1} << 20;  // of a call, which bounds its memory
    std::vector<EditPair> encoded;
    while (encoded.size() < pairs.size()) {
      const auto first = encoded.size();
      const auto each = std::max<std::int64_t>(1, most_pixels / (2 * pairs[first].before[0].numel()));
      const auto count = std::min(pairs.size() - first, static_cast<std::size_t>(each));
      std::vector<at::Tensor> pictures;
      for (auto i = first; i < first + count; ++i) pictures.insert(pictures.end(), {pairs[i].before, pairs[i].after});
      const auto moments = moments_of(pictures);
      const auto mean = moments.mean.to(at::kFloat).contiguous(), logvar = moments.logvar.to(at::kFloat).contiguous();
      for (std::size_t i = 0; i < count; ++i) {
        const auto row = static_cast<std::int64_t>(2 * i);
        encoded.push_back({mean[row + 1], logvar[row + 1], mean[row], instructions[first + i]});
      }
    }
    return encoded;
  }

 private:
  /// Posteriors of pictures [3,h,w], each a row.
  [[nodiscard]] auto moments_of(const std::vector<at::Tensor>& pictures) const {
    const auto stacked = at::stack(pictures);
    if constexpr (requires { codec_.device(); }) {
      return codec_.encode_moments(to_device(stacked, codec_.device()));
    } else {
      return codec_.encode_moments(stacked);
    }
  }

  std::vector<EditPair> one_by_one(const std::vector<PreparedPair>& pairs,
                                   const std::vector<std::string>& instructions) const {
    std::vector<EditPair> encoded;
    for (std::size_t i = 0; i < pairs.size(); ++i) encoded.push_back((*this)(pairs[i], instructions[i]));
    return encoded;
  }

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

  /// The same of several prompts, each with the numbers that it draws; encoded together where the codec computes on a
  /// GPU. \param random one for each of `prompts`
  [[nodiscard]] std::vector<EditPair> get_all(std::span<const std::int64_t> prompts,
                                              std::span<SampleRandom> random) const {
    std::vector<PreparedPair> prepared;
    std::vector<std::string> instructions;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      PairPictures pictures = pictures_->get(prompts[i], random[i]);
      prepared.push_back(augmentation_(pictures, random[i]));
      instructions.push_back(std::move(pictures.instruction));
    }
    return encode_.all(prepared, instructions);
  }

 private:
  Source* pictures_;
  detail::PairEncoder<Codec> encode_;
  PairAugmentation augmentation_;
};

}  // namespace ip2p
