#pragma once

/// \file
/// Contract of the text encoder axis: prompts to the context that the UNet attends to.
///
/// Laws (`ip2p::testing::check_text_encoder`): a batch equals the loop over its prompts; pure; all prompts have as many
/// tokens; "" gives the null conditioning of classifier-free guidance, which no other prompt equals.
///
/// Skeleton:
/// \code
/// struct MyTextEncoder {
///   at::Tensor encode(std::span<const std::string> prompts) const;   // [B, tokens, width]
/// };
/// static_assert(ip2p::TextEncoder<MyTextEncoder>);
/// \endcode
///
/// Optional: `void to(at::Device device, at::ScalarType dtype)` of an encoder with weights. Without it the encoder
/// stays as it is when a pipeline is moved; its context is taken to where the network is.

#include <concepts>
#include <cstdint>
#include <span>
#include <string>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// `encode(prompts)` gives [B, tokens, width] in any floating-point dtype, on any device.
template <class Encoder>
concept TextEncoder = requires(const Encoder& encoder, std::span<const std::string> prompts) {
  { encoder.encode(prompts) } -> std::convertible_to<at::Tensor>;
};

/// Explains in one line what a text encoder lacks.
template <class Encoder>
consteval void require_text_encoder() {
  static_assert(TextEncoder<Encoder>,
                "ip2p: TextEncoder needs `Tensor encode(std::span<const std::string>) const`; see "
                "docs/reference/concepts.md#textencoder");
}

/// `encoder.encode(prompts)` for a caller that relies on its shape.
/// \throws Error unless the context is [B, tokens, width] in floating point, with one row a prompt
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
