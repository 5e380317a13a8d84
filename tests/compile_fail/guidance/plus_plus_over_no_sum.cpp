// expect-error: ip2p: CfgPlusPlus needs a LinearGuidancePolicy as its base
#include "ip2p/guidance/cfg_plus_plus.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/text_guidance.hpp"

namespace plus_plus_over_no_sum {

void use() {
#ifdef IP2P_CORRECTED
  (void)ip2p::CfgPlusPlus(ip2p::TextGuidance{.text_scale = 0.6});
#else
  (void)ip2p::CfgPlusPlus(ip2p::Rescaled{ip2p::TextGuidance{.text_scale = 0.6}, 0.5});
#endif
}

}  // namespace plus_plus_over_no_sum
