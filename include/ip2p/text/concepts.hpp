#pragma once

/// \file
/// Contract of the text encoder axis: prompts to the context that the UNet attends to.
///
/// Laws: a batch equals the loop over its prompts; pure; "" gives the null conditioning of classifier-free guidance.
///
/// Skeleton:
/// \code
/// struct MyTextEncoder {
///   at::Tensor encode(std::span<const std::string> prompts) const;   // [B, tokens, width]
/// };
/// static_assert(ip2p::TextEncoder<MyTextEncoder>);
/// \endcode

#include <concepts>
#include <span>
#include <string>

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

}  // namespace ip2p
