// expect-error: ip2p: LanguageModel needs `std::vector<Completion> complete\(std::span<const CompletionRequest>, const CompletionOptions&\)`; see docs/reference/concepts.md#languagemodel
// expect-lines: 15
#include <ip2p/language/concepts.hpp>

namespace asks_one_by_one {

struct OneByOne {
#ifdef IP2P_CORRECTED
  std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
                                         const ip2p::CompletionOptions& options);
#else
  std::string complete(const std::string& prompt);
#endif
};

void use() { ip2p::require_language_model<OneByOne>(); }

}  // namespace asks_one_by_one
