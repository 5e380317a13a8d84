// expect-error: ip2p: TokenEdit needs `std::int64_t destinations\(\) const` and `TokenWeights weights\(
// expect-lines: 15
#include <ip2p/attention/prompt_to_prompt.hpp>

namespace token_edit_without_weights {

struct Nothing {
  std::int64_t destinations() const { return 1; }
#ifdef IP2P_CORRECTED
  ip2p::TokenWeights weights(std::int64_t destination, const ip2p::Step& step) const;
#endif
};

using Policy = ip2p::PromptToPrompt<Nothing>;
Policy use(const Policy& policy) { return policy; }

}  // namespace token_edit_without_weights
