// expect-error: ip2p: AdaptiveProjectedGuidance needs a LinearGuidancePolicy as its base
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"

namespace projected_over_no_sum {

void use() {
#ifdef IP2P_CORRECTED
  (void)ip2p::Rescaled{ip2p::AdaptiveProjectedGuidance{ip2p::DualGuidance{}}, 0.5};
#else
  (void)ip2p::AdaptiveProjectedGuidance{ip2p::Rescaled{ip2p::DualGuidance{}, 0.5}};
#endif
}

}  // namespace projected_over_no_sum
