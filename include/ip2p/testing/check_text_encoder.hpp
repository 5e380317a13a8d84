#pragma once

/// \file
/// The laws of `TextEncoder`.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/testing/law.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `TextEncoder` that `encoder` breaks.
/// \param prompts at least two different ones, none of them ""; the check adds "" and a prompt of 400 words
/// \param tolerance between a prompt in a batch and alone, relative to 1 + its values
template <class Encoder>
void check_text_encoder(const Encoder& encoder,
                        std::vector<std::string> prompts = {"make it snowy", "a photograph of a lighthouse, at night"},
                        double tolerance = 1e-4) {
  require_text_encoder<Encoder>();
  constexpr auto role = "TextEncoder";
  require(prompts.size() >= 2, "check_text_encoder: expected at least 2 prompts, found {}", prompts.size());
  prompts.emplace_back();
  std::string lengthy;
  for (int i = 0; i < 400; ++i) lengthy += "snow ";
  prompts.push_back(lengthy);
  const std::size_t null_text = prompts.size() - 2;
  const auto encode = [&](const std::vector<std::string>& texts) -> at::Tensor {
    return encoder.encode(std::span<const std::string>(texts));
  };

  const at::Tensor together = encode(prompts).clone();
  expect_law(together.dim() == 3 && together.size(0) == static_cast<std::int64_t>(prompts.size()) &&
                 together.size(1) > 0 && together.size(2) > 0 && together.is_floating_point(),
             role, "the context is [B, tokens, width] in floating point, one row per prompt",
             "expected {} rows, found {}", prompts.size(), tensor_text(together));
  expect_finite(together, role, "values are finite");
  expect_same_bits(encode(prompts), together, role, "equal calls give equal bits");
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto row = together.narrow(0, static_cast<std::int64_t>(i), 1);
    const at::Tensor alone = encode({prompts[i]});
    expect_law(alone.defined() && alone.sizes() == row.sizes(), role, "all prompts have as many tokens",
               "expected {} for prompt {} alone, as beside others, found {}", tensor_text(row), i, tensor_text(alone));
    expect_close(row, alone, tolerance, role, "a batch equals the loop over its prompts", fmt::format("prompt {}", i));
  }
  for (std::size_t i = 0; i < null_text; ++i) {
    expect_law(!together[static_cast<std::int64_t>(i)].equal(together[static_cast<std::int64_t>(null_text)]), role,
               "\"\" is the null text, which no other prompt equals", "prompt {} has its context", i);
  }
}

}  // namespace ip2p::testing
