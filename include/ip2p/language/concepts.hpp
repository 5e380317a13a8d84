#pragma once

/// \file
/// The LanguageModel concept: something that completes texts.
///
/// Laws: one completion per request, in the same order; a text never contains a stop string; at temperature 0, and for
/// a local model at any temperature, a completion depends only on (prompt, sample, options), not on the other requests
/// of the call.
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
  /// Index of the continuation. Together with the seed it selects the random numbers, so one prompt can be continued in
  /// several ways. Below 2^32.
  std::uint64_t sample = 0;
};

/// How texts are continued. The numbers mean what they do in OpenAI's interface, and have the same defaults.
struct CompletionOptions {
  std::int64_t max_tokens = 256;   ///< Limit for one continuation, >= 1.
  double temperature = 1.0;        ///< Logits are divided by it; 0 picks the likeliest token.
  double top_p = 1.0;              ///< Sample from the fewest likeliest tokens that reach this probability; in (0, 1].
  double frequency_penalty = 0.0;  ///< Subtracted from a token's logit for each occurrence in the continuation.
  double presence_penalty = 0.0;   ///< Subtracted once if the token occurs at all.
  std::vector<std::string> stop = {};  ///< A continuation ends before the first of these.
  std::uint64_t seed = 0;              ///< Of all random numbers.
  std::stop_token cancel = {};         ///< A requested stop ends the call with `Cancelled`.

  /// \throws Error for numbers out of range and empty stop strings
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
  stop,    ///< At a stop string, or the model ended the text.
  length,  ///< At `max_tokens` or the end of the model's context.
  filter,  ///< Withheld by the service.
};

/// A continuation, UTF-8, without the prompt and the stop string.
struct Completion {
  std::string text;                          ///< UTF-8; may be empty.
  FinishReason finish = FinishReason::stop;  ///< Why it ends where it does.
  std::int64_t tokens = 0;  ///< Number generated, including the stop string's; 0 if a service does not report it.
};

namespace detail {

/// Cuts `text` before the first stop text that does not end within its first `known` bytes. \return whether there was
/// one
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

/// Completes texts: a model in memory, or a service.
template <class Model>
concept LanguageModel = requires(Model& model, std::span<const CompletionRequest> requests,
                                 const CompletionOptions& options) {
  { model.complete(requests, options) } -> std::convertible_to<std::vector<Completion>>;
};

/// Stops compilation with one sentence unless `Model` is a `LanguageModel`.
template <class Model>
consteval void require_language_model() {
  static_assert(LanguageModel<Model>,
                "ip2p: LanguageModel needs `std::vector<Completion> complete(std::span<const CompletionRequest>, const "
                "CompletionOptions&)`; see docs/reference/concepts.md#languagemodel");
}

}  // namespace ip2p
