#pragma once

/// \file
/// A type-erased text encoder, for choosing one at run time.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Holds any `TextEncoder` by value, and is one itself. Copies copy the encoder (copied model handles share weights).
class AnyTextEncoder {
 public:
  /// Holds `encoder`. Implicit, so that any encoder can be passed where an `AnyTextEncoder` is expected.
  template <class Encoder>
  requires(!std::same_as<std::remove_cvref_t<Encoder>, AnyTextEncoder>)
      AnyTextEncoder(Encoder encoder)  // NOLINT(google-explicit-constructor)
      : held_(std::make_unique<Held<Encoder>>(std::move(encoder))) {
    require_text_encoder<Encoder>();
  }

  AnyTextEncoder(const AnyTextEncoder& other) : held_(other.held_->clone()) {}
  AnyTextEncoder(AnyTextEncoder&&) noexcept = default;
  AnyTextEncoder& operator=(AnyTextEncoder other) noexcept {
    held_ = std::move(other.held_);
    return *this;
  }
  ~AnyTextEncoder() = default;

  /// The encoder's result, [B, tokens, width].
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const { return held_->encode(prompts); }

  /// Moves and converts the encoder's weights, if it has any.
  void to(at::Device device, at::ScalarType dtype) { held_->to(device, dtype); }

 private:
  struct Interface {
    virtual ~Interface() = default;
    [[nodiscard]] virtual std::unique_ptr<Interface> clone() const = 0;
    [[nodiscard]] virtual at::Tensor encode(std::span<const std::string> prompts) const = 0;
    virtual void to(at::Device device, at::ScalarType dtype) = 0;
  };

  template <class Encoder>
  struct Held final : Interface {
    explicit Held(Encoder given) : encoder(std::move(given)) {}
    [[nodiscard]] std::unique_ptr<Interface> clone() const override { return std::make_unique<Held>(encoder); }
    [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const override {
      return encoder.encode(prompts);
    }
    void to(at::Device device, at::ScalarType dtype) override {
      if constexpr (requires { encoder.to(device, dtype); }) encoder.to(device, dtype);
    }
    Encoder encoder;
  };

  std::unique_ptr<Interface> held_;
};
static_assert(TextEncoder<AnyTextEncoder>);

}  // namespace ip2p
