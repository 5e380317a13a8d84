// expect-error: ip2p: ModerationPolicy needs `bool allows\(const Triplet&\) const`; see docs/reference/concepts.md#moderationpolicy
// expect-lines: 15
#include <ip2p/language/moderation.hpp>

namespace moderation_without_verdict {

struct Silent {
#ifdef IP2P_CORRECTED
  bool allows(const ip2p::Triplet& triplet) const;
#endif
};

void use() { ip2p::require_moderation<Silent>(); }

}  // namespace moderation_without_verdict
