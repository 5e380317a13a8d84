#pragma once

/// \file
/// What filters judge: two pictures, their captions, and features that are computed on demand.

#include <ATen/ops/stack.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/filter/similarity.hpp"
#include "ip2p/io/image_types.hpp"

namespace ip2p {

/// Maps pictures and texts into one feature space, as `Clip` does.
///
///     at::Tensor image_features(std::span<const Image> pictures) const;    // [B, D], unit rows
///     at::Tensor text_features(std::span<const std::string> texts) const;  // [B, D], unit rows
template <class Embedder>
concept ImageTextEmbedder = requires(const Embedder& embedder, std::span<const Image> pictures,
                                     std::span<const std::string> texts) {
  { embedder.image_features(pictures) } -> std::convertible_to<at::Tensor>;
  { embedder.text_features(texts) } -> std::convertible_to<at::Tensor>;
};

/// Rows of features, computed at the first call and shared by all copies.
class LazyFeatures {
 public:
  /// \param compute returns [2, D]: before, after
  explicit LazyFeatures(std::function<at::Tensor()> compute) : state_(std::make_shared<State>()) {
    state_->compute = std::move(compute);
  }

  /// The features [2, D]. \throws Error unless `compute` returns two rows
  [[nodiscard]] const at::Tensor& operator()() const {
    if (!state_->value.defined()) {
      const auto value = state_->compute();
      require(value.defined() && value.dim() == 2 && value.size(0) == 2,
              "features of a pair: expected [2, D], found {}",
              value.defined() ? shape_text(value.sizes()) : "no tensor");
      state_->value = value;
    }
    return state_->value;
  }

 private:
  struct State {
    std::function<at::Tensor()> compute;
    at::Tensor value;
  };
  std::shared_ptr<State> state_;
};

/// The features of a pair of pictures and of its two captions, each computed at most once, on demand. Copies share
/// them. Not thread-safe.
class PairFeatures {
 public:
  /// \param pictures features [2,D] of both pictures  \param captions features [2,D] of both captions
  PairFeatures(LazyFeatures pictures, LazyFeatures captions)
      : pictures_(std::move(pictures)), captions_(std::move(captions)) {}

  /// Cosine similarity of the two pictures (clip_sim_image in the published data set). Does not compute caption
  /// features.
  [[nodiscard]] double images() const {
    return feature_similarity(row(pictures_, 0), row(pictures_, 1)).item<double>();
  }

  /// Cosine similarity of each picture and its caption: before, after (clip_sim_0, clip_sim_1).
  [[nodiscard]] std::array<double, 2> captions() const {
    const auto both = feature_similarity(pictures_(), captions_());
    return {both[0].item<double>(), both[1].item<double>()};
  }

  /// `directional_similarity` of the pair (clip_sim_dir).
  [[nodiscard]] double direction() const {
    return directional_similarity(row(pictures_, 0), row(pictures_, 1), row(captions_, 0), row(captions_, 1))
        .item<double>();
  }

 private:
  static at::Tensor row(const LazyFeatures& features, std::int64_t which) { return features().narrow(0, which, 1); }

  LazyFeatures pictures_, captions_;
};

/// A pair of pictures that a filter keeps or rejects.
struct CandidatePair {
  Image before, after;        ///< The two pictures.
  std::string input, output;  ///< Captions of the two.
  PairFeatures features;      ///< What CLIP sees in them.
};

/// The pairs of one prompt, with features from `embedder` (which must outlive them). Caption features are computed once
/// for all pairs. \param pictures alternating before and after, as `PairGenerator` returns them
/// \throws Error for an odd number of pictures
template <ImageTextEmbedder Embedder>
std::vector<CandidatePair> candidate_pairs(const Embedder& embedder, std::vector<Image> pictures,
                                           const std::string& input, const std::string& output) {
  require(pictures.size() % 2 == 0, "candidate pairs: expected pictures before and after in turn, found {} pictures",
          pictures.size());
  const LazyFeatures captions([&embedder, texts = std::vector<std::string>{input, output}] {
    return at::Tensor(embedder.text_features(texts));
  });
  std::vector<CandidatePair> pairs;
  for (std::size_t i = 0; i < pictures.size(); i += 2) {
    // A second copy of the pictures, because their features are computed later, if at all.
    auto both = std::make_shared<std::vector<Image>>(std::vector<Image>{pictures[i], pictures[i + 1]});
    LazyFeatures images([&embedder, both] { return at::Tensor(embedder.image_features(*both)); });
    pairs.push_back(
        {std::move(pictures[i]), std::move(pictures[i + 1]), input, output, PairFeatures(std::move(images), captions)});
  }
  return pairs;
}

}  // namespace ip2p
