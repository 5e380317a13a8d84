// The sentence must come first, from the combinator itself and not from a failed deduction.
// expect-error: ip2p: AttentionRecorder needs `bool wants\(const AttentionSite&\) const`, `Tensor columns\(std::int64_t images, std::int64_t tokens\) const` and `void record\(const AttentionSite&, const Tensor& sums\)`; see docs/reference/concepts.md#attentionrecorder
#include <cstdint>
#include <memory>

#include "ip2p/attention/observed.hpp"
#include "ip2p/attention/plain.hpp"

namespace recorder_without_columns {

struct Mine {
  bool wants(const ip2p::AttentionSite&) const { return true; }
#ifdef IP2P_CORRECTED
  at::Tensor columns(std::int64_t, std::int64_t) const { return {}; }
#endif
  void record(const ip2p::AttentionSite&, const at::Tensor&) {}
};

void use() { ip2p::Observed attend(ip2p::PlainAttention{}, std::make_shared<Mine>()); }

}  // namespace recorder_without_columns
