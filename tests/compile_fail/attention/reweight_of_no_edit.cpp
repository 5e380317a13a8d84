// expect-error: ip2p: TokenEdit needs `std::int64_t destinations\(\) const` and `TokenWeights weights\(std::int64_t destination, const Step&\) const`; see docs/reference/concepts.md#tokenedit
#include <cstdint>

#include "ip2p/attention/reweight.hpp"

namespace reweight_of_no_edit {

struct Mine {
#ifdef IP2P_CORRECTED
  std::int64_t destinations() const { return 1; }
#endif
  ip2p::TokenWeights weights(std::int64_t, const ip2p::Step&) const { return {}; }
};

void use() { (void)ip2p::Reweight{at::Tensor(), Mine{}}; }

}  // namespace reweight_of_no_edit
