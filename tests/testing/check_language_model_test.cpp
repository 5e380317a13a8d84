#include "ip2p/testing/check_language_model.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

enum class LanguageDefect { none, forgets_one, moody, order, neighbours, keeps_stop, careless };

/// Returns the prompt backwards, with the sample's number.
template <LanguageDefect defect>
struct Backwards {
  std::int64_t calls = 0;

  std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
                                         const ip2p::CompletionOptions& options) {
    if (defect != LanguageDefect::careless) options.validate();
    ++calls;
    std::vector<ip2p::Completion> answers;
    for (const auto& request : requests) {
      std::string text(request.prompt.rbegin(), request.prompt.rend());
      text += std::to_string(request.sample);
      if (defect == LanguageDefect::moody) text += std::to_string(calls);
      if (defect == LanguageDefect::neighbours) text += std::to_string(requests.size());
      auto cut = std::string::npos;
      for (const auto& stop : options.stop) cut = std::min(cut, text.find(stop));
      if (defect != LanguageDefect::keeps_stop && cut != std::string::npos) text.resize(cut);
      answers.push_back({text, ip2p::FinishReason::stop, 1});
    }
    if (defect == LanguageDefect::forgets_one && !answers.empty()) answers.pop_back();
    if (defect == LanguageDefect::order) {
      std::sort(answers.begin(), answers.end(), [](const auto& a, const auto& b) { return a.text < b.text; });
    }
    return answers;
  }
};

template <LanguageDefect defect>
std::string broken_law() {
  Backwards<defect> model;
  try {
    ip2p::testing::check_language_model(model, {"a cat", "dogs", "some birds"});
  } catch (const ip2p::Error& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("check_language_model accepts a sound model and names the law that a flawed one breaks", "[testing]") {
  CHECK(broken_law<LanguageDefect::none>() == "none");
  CHECK_THAT(broken_law<LanguageDefect::forgets_one>(), Contains("\"one completion a request\": expected 3, found 2"));
  CHECK_THAT(broken_law<LanguageDefect::moody>(), Contains("\"equal calls give equal answers\": request 0"));
  CHECK_THAT(broken_law<LanguageDefect::order>(), Contains("\"answers in the order of the requests\""));
  CHECK_THAT(broken_law<LanguageDefect::neighbours>(), Contains("\"a completion does not depend on its neighbours\""));
  CHECK_THAT(broken_law<LanguageDefect::keeps_stop>(), Contains("\"a text never holds a stop text\": request 0"));
  CHECK_THAT(broken_law<LanguageDefect::careless>(),
             Contains("\"options out of range are refused\": max_tokens 0 was accepted"));
  Backwards<LanguageDefect::none> model;
  CHECK_THROWS_WITH(ip2p::testing::check_language_model(model, {"one"}),
                    "check_language_model: expected at least 2 prompts, found 1");
}
