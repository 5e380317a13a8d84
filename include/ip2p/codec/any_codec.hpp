#pragma once

/// \file
/// A type-erased image codec, for choosing one at run time.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/codec/latent_moments.hpp"

namespace ip2p {

/// Holds any `ImageCodec` by value, and is one itself. Copies copy the codec held (copies of a model handle share its
/// weights). Optional members of a codec are forwarded: `encode_moments`, `device`, `to`, `compute_in` and
/// `first_non_finite`.
class AnyCodec {
 public:
  /// Holds `codec`. Implicit, so that any codec can be passed where an `AnyCodec` is expected.
  template <class Codec>
  requires(!std::same_as<std::remove_cvref_t<Codec>, AnyCodec>)
      AnyCodec(Codec codec)  // NOLINT(google-explicit-constructor)
      : held_(std::make_unique<Held<Codec>>(std::move(codec))) {
    require_image_codec<Codec>();
  }

  AnyCodec(const AnyCodec& other) : held_(other.held_->clone()) {}
  AnyCodec(AnyCodec&&) noexcept = default;
  AnyCodec& operator=(AnyCodec other) noexcept {
    held_ = std::move(other.held_);
    return *this;
  }
  ~AnyCodec() = default;

  /// Images [B,3,H,W] in [-1,1] to latents [B,C,H/f,W/f], not scaled.
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const { return held_->encode(images); }

  /// The posterior over latents. For a codec without one, its latents with no variance (`LatentMoments::certain`).
  [[nodiscard]] LatentMoments encode_moments(const at::Tensor& images) const { return held_->encode_moments(images); }

  /// Latents [B,C,h,w], not scaled, to images [B,3,f*h,f*w], nominally in [-1,1].
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const { return held_->decode(latents); }

  /// Factor of the latents that the network sees, as the codec answers.
  [[nodiscard]] double scaling_factor() const { return held_->scaling_factor(); }
  /// Pixels per latent pixel along each side, as the codec answers.
  [[nodiscard]] std::int64_t downscale() const { return held_->downscale(); }
  /// Channels of the latents, as the codec answers.
  [[nodiscard]] std::int64_t latent_channels() const { return held_->latent_channels(); }

  /// Where the codec's weights are; the CPU if it has none.
  [[nodiscard]] at::Device device() const { return held_->device(); }

  /// Moves and converts the codec's weights, if it has any.
  void to(at::Device device, at::ScalarType dtype) { held_->to(device, dtype); }

  /// Computes in `dtype` without converting the weights, if the codec supports it; see `ModelHandle::compute_in`.
  void compute_in(at::ScalarType dtype) { held_->compute_in(dtype); }

  /// The first layer to produce a non-finite value while `evaluate` runs; empty if none or if the codec cannot tell.
  [[nodiscard]] std::string first_non_finite(const std::function<void()>& evaluate) const {
    return held_->first_non_finite(evaluate);
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    [[nodiscard]] virtual std::unique_ptr<Interface> clone() const = 0;
    [[nodiscard]] virtual at::Tensor encode(const at::Tensor& images) const = 0;
    [[nodiscard]] virtual LatentMoments encode_moments(const at::Tensor& images) const = 0;
    [[nodiscard]] virtual at::Tensor decode(const at::Tensor& latents) const = 0;
    [[nodiscard]] virtual double scaling_factor() const = 0;
    [[nodiscard]] virtual std::int64_t downscale() const = 0;
    [[nodiscard]] virtual std::int64_t latent_channels() const = 0;
    [[nodiscard]] virtual at::Device device() const = 0;
    virtual void to(at::Device device, at::ScalarType dtype) = 0;
    virtual void compute_in(at::ScalarType dtype) = 0;
    [[nodiscard]] virtual std::string first_non_finite(const std::function<void()>& evaluate) const = 0;
  };

  template <class Codec>
  struct Held final : Interface {
    explicit Held(Codec given) : codec(std::move(given)) {}
    [[nodiscard]] std::unique_ptr<Interface> clone() const override { return std::make_unique<Held>(codec); }
    [[nodiscard]] at::Tensor encode(const at::Tensor& images) const override { return codec.encode(images); }
    [[nodiscard]] LatentMoments encode_moments(const at::Tensor& images) const override {
      if constexpr (requires { codec.encode_moments(images).logvar; }) {
        const auto moments = codec.encode_moments(images);
        return {moments.mean, moments.logvar};
      } else {
        return LatentMoments::certain(codec.encode(images));
      }
    }
    [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const override { return codec.decode(latents); }
    [[nodiscard]] double scaling_factor() const override { return codec.scaling_factor(); }
    [[nodiscard]] std::int64_t downscale() const override { return codec.downscale(); }
    [[nodiscard]] std::int64_t latent_channels() const override { return codec.latent_channels(); }
    [[nodiscard]] at::Device device() const override {
      if constexpr (requires { codec.device(); }) {
        return codec.device();
      } else {
        return at::kCPU;
      }
    }
    void to(at::Device device, at::ScalarType dtype) override {
      if constexpr (requires { codec.to(device, dtype); }) codec.to(device, dtype);
    }
    void compute_in(at::ScalarType dtype) override {
      if constexpr (requires { codec.compute_in(dtype); }) codec.compute_in(dtype);
    }
    [[nodiscard]] std::string first_non_finite(const std::function<void()>& evaluate) const override {
      if constexpr (requires { codec.first_non_finite(evaluate); }) return codec.first_non_finite(evaluate);
      return {};
    }
    Codec codec;
  };

  std::unique_ptr<Interface> held_;
};
static_assert(ImageCodec<AnyCodec>);

}  // namespace ip2p
