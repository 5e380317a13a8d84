// expect-error: ip2p: TextEncoder needs `Tensor encode\(std::span<const std::string>\) const`; see docs/reference/concepts.md#textencoder
// expect-lines: 15
#include <ip2p/text/concepts.hpp>

namespace encoder_of_one_prompt {

struct OneByOne {
#ifdef IP2P_CORRECTED
  at::Tensor encode(std::span<const std::string> prompts) const;
#else
  at::Tensor encode(const std::string& prompt) const;
#endif
};

void use() { ip2p::require_text_encoder<OneByOne>(); }

}  // namespace encoder_of_one_prompt
