#pragma once

/// \file
/// Maps of text cross-attention, kept to be looked at.

#include <ATen/ops/eye.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/attention/observed.hpp"

namespace ip2p {

/// Averages the cross-attention maps of each token over heads, layers of one size, and steps. A recorder: it sees them
/// through `Observed`, with edits applied.
///
///     auto store = std::make_shared<ip2p::StoreMaps>();
///     ip2p::Observed attention(ip2p::PlainAttention{}, store);           // hand it to a run, then
///     store->maps(16, 16);                                               // [images, T, 16, 16]
class StoreMaps {
 public:
  /// \param max_tokens larger maps (in pixels) are not recorded
  explicit StoreMaps(std::int64_t max_tokens = 32 * 32) : max_tokens_(max_tokens) {}

  [[nodiscard]] bool wants(const AttentionSite& site) const { return site.height * site.width <= max_tokens_; }
  [[nodiscard]] at::Tensor columns(std::int64_t /*images*/, std::int64_t tokens) const {
    return at::eye(tokens).unsqueeze(0);
  }
  void record(const AttentionSite& site, const at::Tensor& sums) { maps_.add(site, sums); }

  /// [images, T, height, width], over everything since the start or the last `clear()`; the maps of all tokens sum to 1
  /// at each pixel where no edit changed that. Throws `Error` where no layer of that size was recorded.
  [[nodiscard]] at::Tensor maps(std::int64_t height, std::int64_t width) const {
    return maps_.mean("StoreMaps", height, width);
  }

  /// Sizes (height, width) that were recorded, smallest first.
  [[nodiscard]] std::vector<std::pair<std::int64_t, std::int64_t>> sizes() const { return maps_.sizes(); }

  void clear() { maps_.clear(); }

 private:
  std::int64_t max_tokens_;
  detail::RecordedMaps maps_;
};
static_assert(AttentionRecorder<StoreMaps>);

}  // namespace ip2p
