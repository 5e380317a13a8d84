#pragma once

/// \file
/// Chooses the next token: penalties, temperature, top-p.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/language/concepts.hpp"

namespace ip2p {

/// How often each token occurs in a continuation.
using TokenCounts = std::map<std::int64_t, std::int64_t>;

namespace detail {

/// The logits of the next token after OpenAI's penalties: each token's is lowered by
/// count * frequency_penalty + (count > 0) * presence_penalty.
inline std::vector<double> penalised(std::span<const float> logits, const TokenCounts& counts,
                                     const CompletionOptions& options) {
  std::vector<double> result(logits.begin(), logits.end());
  for (const auto& [token, count] : counts) {
    result.at(static_cast<std::size_t>(token)) -=
        static_cast<double>(count) * options.frequency_penalty + options.presence_penalty;
  }
  return result;
}

}  // namespace detail

/// Probabilities of the next token under `options`, summing to 1: softmax of the penalised logits divided by the
/// temperature. With top_p < 1 only the smallest set of likeliest tokens that reaches top_p keeps any probability
/// (ties: lower id first). Temperature 0 gives the likeliest token probability 1 (ties: lowest id).
/// \param logits one per token, finite  \throws Error for logits that are not finite
inline std::vector<double> token_probabilities(std::span<const float> logits, const TokenCounts& counts,
                                               const CompletionOptions& options) {
  auto p = detail::penalised(logits, counts, options);
  const auto likeliest = std::max_element(p.begin(), p.end());
  require(
      likeliest != p.end() && std::all_of(p.begin(), p.end(), [](double value) { return std::isfinite(value); }),
      "language model: expected finite logits, found NaN or infinity; weights may be damaged or overflow the dtype");
  const double largest = *likeliest;
  if (options.temperature == 0) {
    const auto chosen = static_cast<std::size_t>(likeliest - p.begin());
    std::fill(p.begin(), p.end(), 0.0);
    p[chosen] = 1.0;
    return p;
  }
  double sum = 0.0;
  for (auto& value : p) sum += value = std::exp((value - largest) / options.temperature);
  for (auto& value : p) value /= sum;
  if (options.top_p >= 1) return p;

  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
  double kept = 0.0;
  std::size_t count = 0;
  while (count < order.size() && kept < options.top_p) kept += p[order[count++]];
  std::vector<double> nucleus(p.size(), 0.0);
  for (std::size_t i = 0; i < count; ++i) nucleus[order[i]] = p[order[i]] / kept;
  return nucleus;
}

/// The token at which the running sum of `probabilities`, in the order of ids, passes `uniform` in [0, 1).
inline std::int64_t choose_token(std::span<const double> probabilities, double uniform) {
  double sum = 0.0;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] == 0.0) continue;
    sum += probabilities[i];
    last = static_cast<std::int64_t>(i);
    if (uniform < sum) return last;
  }
  return last;  // Rounding may leave the sum just below 1.
}

}  // namespace ip2p
