#pragma once

/// \file
/// Stores text cross-attention maps for inspection.

#include <ATen/ops/eye.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ip2p/attention/observed.hpp"

namespace ip2p {

/// Averages each token's cross-attention map over heads, layers of the same size, and the steps of a run, including any
/// edits:
///
///     const auto seen = ip2p::StoreMaps{}.start();
///     ip2p::Observed attention(ip2p::PlainAttention{}, seen);            // pass it to a run, then
///     seen->maps(16, 16);                                                // [images, T, 16, 16]
struct StoreMaps {
  std::int64_t max_tokens = 32 * 32;  ///< Maps with more pixels than this are not recorded.

  /// The recorder of one run.
  class Run {
   public:
    /// \param max_tokens larger maps (in pixels) are not recorded
    explicit Run(std::int64_t max_tokens) : max_tokens_(max_tokens) {}

    /// Whether the map of a site is small enough to be recorded.
    [[nodiscard]] bool wants(const AttentionSite& site) const { return site.height * site.width <= max_tokens_; }
    /// One column a token, so that all maps are recorded: [1, tokens, tokens].
    [[nodiscard]] at::Tensor columns(std::int64_t /*images*/, std::int64_t tokens) const {
      return at::eye(tokens).unsqueeze(0);
    }
    /// Throws `Error` for a step of another run.
    void record(const AttentionSite& site, const at::Tensor& sums) { maps_.add(site, sums); }

    /// [images, T, height, width], averaged over the run so far; ends the last recorded step. At each pixel the maps of
    /// all tokens sum to 1, unless an edit changed that. Throws `Error` if no layer of that size was recorded.
    [[nodiscard]] at::Tensor maps(std::int64_t height, std::int64_t width) {
      maps_.end_step();
      return maps_.mean(height, width);
    }

    /// Sizes (height, width) that were recorded, smallest first.
    [[nodiscard]] std::vector<std::pair<std::int64_t, std::int64_t>> sizes() const { return maps_.sizes(); }

   private:
    std::int64_t max_tokens_;
    detail::RecordedMaps maps_{"StoreMaps"};
  };

  /// A new, empty recorder.
  [[nodiscard]] std::shared_ptr<Run> start() const { return std::make_shared<Run>(max_tokens); }
};
static_assert(AttentionRecorder<StoreMaps::Run>);

}  // namespace ip2p
