#pragma once

/// \file
/// The same noise for several pictures.

#include <ATen/ops/repeat_interleave.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"

namespace ip2p {

/// A noise source whose rows come in groups of equal noise: row i gets what row i / group of `Noise` gets. The pictures
/// of a group then differ only by their texts, as Prompt-to-Prompt requires. `SharedNoise<Source&>` draws from the
/// caller's own source.
template <class Noise>
class SharedNoise {
  static_assert((require_noise_source<Noise>(), true));

 public:
  /// \throws Error for a group below 1
  SharedNoise(Noise noise, std::int64_t group) : noise_(std::forward<Noise>(noise)), group_(group) {
    require(group >= 1, "SharedNoise: expected groups of at least 1, found {}", group);
  }

  /// fp32 [B, ...] on the CPU. \throws Error unless B is a multiple of the group size
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    const auto batch = detail::noise_batch(shape, draw);
    require(batch % group_ == 0, "SharedNoise: expected rows in groups of {}, found {}", group_, batch);
    std::vector<std::int64_t> groups(shape.begin(), shape.end());
    groups.front() = batch / group_;
    return at::repeat_interleave(noise_.normal(groups, draw), group_, 0);
  }

 private:
  Noise noise_;
  std::int64_t group_;
};

}  // namespace ip2p
