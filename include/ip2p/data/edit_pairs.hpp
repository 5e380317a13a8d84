#pragma once

/// \file
/// The PairSource concept, which supplies training pairs of latents with an instruction, and their order in an epoch.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// One training example: the original picture, the edited picture and the instruction. Latents are unscaled, [C,h,w],
/// fp32. For text-to-image there is no original picture, and the instruction is the caption.
struct EditPair {
  at::Tensor target_mean;    ///< Posterior mean of the edited picture.
  at::Tensor target_logvar;  ///< Its log variance; the training target is a sample of this posterior.
  at::Tensor condition;      ///< Posterior mode of the original picture; undefined for text to image.
  std::string instruction;   ///< What shall be done to the picture; for text to image its caption.
};

/// A collection of `size()` pairs with access by index.
///
///     std::int64_t size();
///     ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);   // random: for choices such as the phrasing
///
/// Optional, for a source that is faster with several at once; equal to the loop of `get` up to rounding:
///
///     std::vector<ip2p::EditPair> get_all(std::span<const std::int64_t> is, std::span<ip2p::SampleRandom> random);
///
/// Laws (`ip2p::testing::check_pair_source`): there is at least one pair, and their number does not change; `get` is a
/// function of i and the numbers it draws; all pairs of a source have one shape [C,h,w], fp32 on one device, finite.
template <class Source>
concept PairSource = requires(Source& source, std::int64_t i, SampleRandom& random) {
  { source.size() } -> std::convertible_to<std::int64_t>;
  { source.get(i, random) } -> std::convertible_to<EditPair>;
};

/// Stops compilation with one sentence unless `Source` is a `PairSource`.
template <class Source>
consteval void require_pair_source() {
  static_assert(PairSource<Source>,
                "ip2p: PairSource needs `std::int64_t size()` and `EditPair get(std::int64_t i, SampleRandom&)`; see "
                "docs/reference/concepts.md#pairsource");
}

namespace detail {

/// Pairs `is` of a source, each with its own numbers; all at once where the source offers that.
template <class Source>
std::vector<EditPair> pairs_of(Source& source, std::span<const std::int64_t> is, std::span<SampleRandom> random) {
  if constexpr (requires {
                  { source.get_all(is, random) } -> std::same_as<std::vector<EditPair>>;
                }) {
    return source.get_all(is, random);
  } else {
    std::vector<EditPair> pairs;
    for (std::size_t i = 0; i < is.size(); ++i) pairs.push_back(source.get(is[i], random[i]));
    return pairs;
  }
}

}  // namespace detail

/// Order of an epoch: a permutation of 0 ... size-1 that depends only on (seed, epoch), by a Fisher-Yates shuffle.
inline std::vector<std::int64_t> epoch_order(std::uint64_t seed, std::int64_t epoch, std::int64_t size) {
  require(size > 0, "pair source: expected at least one pair, found {}", size);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  SampleRandom random(seed, static_cast<std::uint64_t>(epoch), 0xffffffffu);
  for (std::int64_t i = size - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
  }
  return order;
}

}  // namespace ip2p
