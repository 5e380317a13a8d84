// What is said about policies that cannot be copied or whose properties are no constants.
// expect-each: ip2p: UpsamplingPolicy must be copyable; see docs/reference/concepts.md#upsamplingpolicy
// expect-each: ip2p: UpsamplingPolicy needs `reads_before` as `static constexpr bool`; see docs/reference/concepts.md#upsamplingpolicy
// expect-each: ip2p: UpsamplingPolicy needs `enlarges` as `static constexpr bool`; see docs/reference/concepts.md#upsamplingpolicy
#include <ip2p/upsampling/concepts.hpp>

#include "../lacking.hpp"

namespace upsampling_of_no_constants {

struct Single {
  Single() = default;
#ifdef IP2P_CORRECTED
  Single(const Single&) = default;
#else
  Single(const Single&) = delete;
#endif
  ip2p::Image operator()(const ip2p::Image& photo, const ip2p::ModelEdit& edit) const;
};
struct Reads {
  LACKING(static constexpr) bool reads_before LACKING(= false);
  ip2p::Image operator()(const ip2p::Image& photo, const ip2p::ModelEdit& edit) const;
};
struct Enlarges {
  LACKING(static constexpr) bool enlarges LACKING(= false);
  ip2p::Image operator()(const ip2p::Image& photo, const ip2p::ModelEdit& edit) const;
};

void use() {
  ip2p::require_upsampling_policy<Single>();
  ip2p::require_upsampling_policy<Reads>();
  ip2p::require_upsampling_policy<Enlarges>();
}

}  // namespace upsampling_of_no_constants
