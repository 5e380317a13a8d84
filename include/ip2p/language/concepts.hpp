#pragma once

/// \file
/// Contract of the language-model axis: what continues a text.
///
/// Laws: one completion a request, in their order; a text never holds a stop string; with temperature 0, and with a
/// model on this machine at any temperature, a completion is a function of (prompt, sample, options) and not of the
/// requests beside it.
///
/// Skeleton:
/// \code
/// struct MyLanguageModel {
///   std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
///                                          const ip2p::CompletionOptions& options);
/// };
/// static_assert(ip2p::LanguageModel<MyLanguageModel>);
/// \endcode

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// A text to continue.
struct CompletionRequest {
  std::string prompt;  ///< UTF-8.
  /// Number of the continuation: with the seed it chooses the random numbers, so that the same prompt can be continued
  /// in several ways. Below 2^32.
  std::uint64_t sample = 0;
};

/// How texts are continued. The meaning of each number is OpenAI's, the defaults too.
struct CompletionOptions {
  std::int64_t max_tokens = 256;   ///< Most tokens of a continuation, >= 1.
  double temperature = 1.0;        ///< Logits are divided by it; 0 takes the likeliest token.
  double top_p = 1.0;              ///< Draw from the fewest likeliest tokens whose probabilities sum to it; in (0, 1].
  double frequency_penalty = 0.0;  ///< Taken off a token's logit for each time it stands in the continuation.
  double presence_penalty = 0.0;   ///< Taken off once if it stands there at all.
  std::vector<std::string> stop = {};  ///< A continuation ends before the first of these.
  std::uint64_t seed = 0;              ///< Of all random numbers.
  std::stop_token cancel = {};         ///< A requested stop ends the call with `Cancelled`.

  /// Throws `Error` for numbers out of range and empty stop strings.
  void validate() const {
    require(max_tokens >= 1, "max_tokens: expected at least 1, found {}", max_tokens);
    require(std::isfinite(temperature) && temperature >= 0, "temperature: expected a finite number >= 0, found {}",
            temperature);
    require(top_p > 0 && top_p <= 1, "top_p: expected a number in (0, 1], found {}", top_p);
    require(std::isfinite(frequency_penalty), "frequency_penalty: expected a finite number, found {}",
            frequency_penalty);
    require(std::isfinite(presence_penalty), "presence_penalty: expected a finite number, found {}", presence_penalty);
    require(std::none_of(stop.begin(), stop.end(), [](const std::string& text) { return text.empty(); }),
            "stop: expected texts, found an empty one");
  }
};

/// Why a continuation ended.
enum class FinishReason {
  stop,    ///< At a stop string, or because the model ended the text.
  length,  ///< At `max_tokens` or the end of the model's context.
  filter,  ///< Withheld by the service.
};

/// A continuation, UTF-8, without prompt and stop string.
struct Completion {
  std::string text;                          ///< UTF-8; may be empty.
  FinishReason finish = FinishReason::stop;  ///< Why it ends where it does.
  std::int64_t tokens = 0;  ///< Generated ones, the stop string's included; 0 where a service does not say.
};

namespace detail {

/// Cuts `text` before the first stop text that does not end within its first `known` bytes; whether there was one.
inline bool cut_at_stop(std::string& text, const std::vector<std::string>& stops, std::size_t known = 0) {
  auto cut = std::string::npos;
  for (const auto& stop : stops) {
    cut = std::min(cut, text.find(stop, known + 1 > stop.size() ? known + 1 - stop.size() : 0));
  }
  if (cut == std::string::npos) return false;
  text.resize(cut);
  return true;
}

}  // namespace detail

/// Something that continues texts: a model in memory, or a service.
template <class Model>
concept LanguageModel = requires(Model& model, std::span<const CompletionRequest> requests,
                                 const CompletionOptions& options) {
  { model.complete(requests, options) } -> std::convertible_to<std::vector<Completion>>;
};

/// Explains in one line what a language model lacks.
template <class Model>
consteval void require_language_model() {
  static_assert(LanguageModel<Model>,
                "ip2p: LanguageModel needs `std::vector<Completion> complete(std::span<const CompletionRequest>, const "
                "CompletionOptions&)`; see docs/reference/concepts.md#languagemodel");
}

}  // namespace ip2p
