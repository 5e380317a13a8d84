#pragma once

/// \file
/// Contract of text encoders, which turn prompts into the context that the UNet attends to.
///
/// Laws (`ip2p::testing::check_text_encoder`): a batch gives the same result as its prompts one by one; pure; all
/// prompts give the same number of tokens; "" gives the null conditioning of classifier-free guidance, and no other
/// prompt does.
///
/// Skeleton:
/// \code
/// struct MyTextEncoder {
///   at::Tensor encode(std::span<const std::string> prompts) const;   // [B, tokens, width]
/// };
/// static_assert(ip2p::TextEncoder<MyTextEncoder>);
/// \endcode
///
/// Optional: `void to(at::Device device, at::ScalarType dtype)`, for an encoder with weights. Without it the encoder is
/// left as it is when a pipeline is moved; its results are moved to the network's device.

#include <concepts>
#include <cstdint>
#include <span>
#include <string>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// `encode(prompts)` returns [B, tokens, width] in any floating-point dtype, on any device.
template <class Encoder>
concept TextEncoder = requires(const Encoder& encoder, std::span<const std::string> prompts) {
  { encoder.encode(prompts) } -> std::convertible_to<at::Tensor>;
};

/// Fails to compile, with a one-sentence message, unless `Encoder` is a `TextEncoder`.
template <class Encoder>
consteval void require_text_encoder() {
  static_assert(TextEncoder<Encoder>,
                "ip2p: TextEncoder needs `Tensor encode(std::span<const std::string>) const`; see "
                "docs/reference/concepts.md#textencoder");
}

/// `encoder.encode(prompts)`, with its result checked.
/// \throws Error unless the context is floating-point [B, tokens, width], with one row per prompt
template <TextEncoder Encoder>
[[nodiscard]] at::Tensor encode_checked(const Encoder& encoder, std::span<const std::string> prompts) {
  const at::Tensor context = encoder.encode(prompts);
  const auto rows = static_cast<std::int64_t>(prompts.size());
  require(context.defined() && context.dim() == 3 && context.size(0) == rows && context.size(1) > 0 &&
              context.size(2) > 0 && context.is_floating_point(),
          "text encoder: expected a context [{}, tokens, width] in floating point for {} prompt{}, found {}", rows,
          rows, rows == 1 ? "" : "s", tensor_text(context));
  return context;
}

}  // namespace ip2p
