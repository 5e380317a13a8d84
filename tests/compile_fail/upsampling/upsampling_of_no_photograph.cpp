// expect-error: ip2p: UpsamplingPolicy needs `Image operator\(\)\(const Image& photo, const ModelEdit&\) const`; see docs/reference/concepts.md#upsamplingpolicy
#include <ip2p/upsampling/concepts.hpp>

namespace upsampling_of_no_photograph {

struct Smooth {
#ifdef IP2P_CORRECTED
  ip2p::Image operator()(const ip2p::Image& photo, const ip2p::ModelEdit& edit) const;
#else
  ip2p::Image operator()(const ip2p::ModelEdit& edit) const;
#endif
};

void use() { ip2p::require_upsampling_policy<Smooth>(); }

}  // namespace upsampling_of_no_photograph
