// The answer of a service of language models is refused with an Error that does not hold the key, or it is a
// completion: tokens are not negative, and the stop text is not in it. The input is a byte for the kind of interface,
// three digits of the status, and the body.

#include <cstdlib>
#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/language/completions_client.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

constexpr const char* key = "sk-test-0123456789";

/// Answers every request alike.
struct SameAnswer {
  ip2p::HttpResponse response;
  ip2p::HttpResponse post(const ip2p::HttpRequest&) const { return response; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return -1;
  static const int set = ::setenv("IP2P_FUZZ_KEY", key, 1);
  static_cast<void>(set);
  int status = 0;
  for (int i = 1; i < 4; ++i) status = status * 10 + (data[i] + 2) % 10;  // '0' is 48
  const ip2p::CompletionsClient client(
      {.model = "m", .chat = *data % 2 != 0, .key_variable = "IP2P_FUZZ_KEY", .tries = 1},
      SameAnswer{{status, std::string(fuzz::text_of(data + 4, size - 4))}});
  const std::vector<ip2p::CompletionRequest> requests{{"a cat", 0}};
  try {
    ip2p::CompletionOptions options;
    options.stop = {"\nEND"};
    const auto completions = client.complete(requests, options);
    fuzz::expect(completions.size() == 1 && status == 200, "a completion that nobody gave");
    fuzz::expect(completions[0].text.find("\nEND") == std::string::npos, "the stop text is in the completion");
  } catch (const ip2p::Error& error) {
    const std::string_view message = error.what();
    fuzz::expect(message.find(key) == std::string_view::npos, "the key is in a message");
    fuzz::expect_shown(message);
  }
  return 0;
}
