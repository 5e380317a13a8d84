#pragma once

/// \file
/// The laws of `LanguageModel`.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/io/printable.hpp"
#include "ip2p/language/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `LanguageModel` that `model` breaks.
/// \param prompts at least two, of different lengths, that the model can continue
/// \param options of the sampling; use temperature 0 for a model whose randomness ignores the seed
template <class Model>
void check_language_model(Model& model, const std::vector<std::string>& prompts, CompletionOptions options = {}) {
  require_language_model<Model>();
  constexpr auto role = "LanguageModel";
  require(prompts.size() >= 2, "check_language_model: expected at least 2 prompts, found {}", prompts.size());
  std::vector<CompletionRequest> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt, 3 * requests.size() + 1});
  const auto ask = [&](std::span<const CompletionRequest> some) {
    std::vector<Completion> answers = model.complete(some, options);
    expect_law(answers.size() == some.size(), role, "one completion a request", "expected {}, found {}", some.size(),
               answers.size());
    return answers;
  };
  const auto expect_same = [](const Completion& found, const Completion& expected, std::string_view law,
                              std::size_t request) {
    const auto text = [](const Completion& completion) {
      return fmt::format("\"{}\" that ends by {}", detail::printable(completion.text),
                         completion.finish == FinishReason::stop     ? "a stop"
                         : completion.finish == FinishReason::length ? "its length"
                                                                     : "a filter");
    };
    expect_law(found.text == expected.text && found.finish == expected.finish, role, law,
               "request {}: expected {}, found {}", request, text(expected), text(found));
  };

  ask({});
  const auto together = ask(requests);
  const auto again = ask(requests);
  std::vector<CompletionRequest> backwards(requests.rbegin(), requests.rend());
  const auto reversed = ask(backwards);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_same(again[i], together[i], "equal calls give equal answers", i);
    expect_same(reversed[requests.size() - 1 - i], together[i], "answers in the order of the requests", i);
    const auto alone = ask(std::span(requests).subspan(i, 1));
    expect_same(together[i], alone[0], "a completion does not depend on its neighbours", i);
  }

  // A stop text that is known to occur must end the completion before it.
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& text = together[i].text;
    if (text.size() < 2) continue;
    std::size_t begin = text.size() / 2;  // Move to the start of a UTF-8 character.
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    options.stop.push_back(text.substr(begin));
    const auto stopped = ask(std::span(requests).subspan(i, 1));
    for (const auto& stop : options.stop) {
      expect_law(stopped[0].text.find(stop) == std::string::npos, role, "a text never holds a stop text",
                 "request {}: found \"{}\" in \"{}\"", i, detail::printable(stop), detail::printable(stopped[0].text));
    }
    expect_law(together[i].text.starts_with(stopped[0].text), role, "a stop text only shortens",
               "request {}: expected a start of \"{}\", found \"{}\"", i, detail::printable(text),
               detail::printable(stopped[0].text));
    options.stop.pop_back();
  }

  options.max_tokens = 0;
  expect_throws([&] { static_cast<void>(model.complete(std::span<const CompletionRequest>(requests), options)); }, role,
                "options out of range are refused", "max_tokens 0");
}

}  // namespace ip2p::testing
