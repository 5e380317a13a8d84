#pragma once

/// \file
/// What a model folder turns out to hold, chosen at run time: at the edge of a program, and only there.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/text/clip_text_encoder.hpp"

namespace example {

/// A text encoder that stays in memory or is loaded for each call; satisfies `ip2p::TextEncoder`.
class AnyTextEncoder {
 public:
  /// \param prepare called after each loading, for what is added to the model
  AnyTextEncoder(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options, bool on_demand,
                 const std::function<void(ip2p::ClipTextEncoder&)>& prepare)
      : encoder_(ip2p::OnDemand<ip2p::ClipTextEncoder>(files, options, prepare)) {
    if (on_demand) return;
    auto loaded = ip2p::load<ip2p::ClipTextEncoder>(files, options);
    prepare(loaded);
    encoder_ = std::move(loaded);
  }

  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    return std::visit([&](const auto& encoder) -> at::Tensor { return encoder.encode(prompts); }, encoder_);
  }
  void to(at::Device device, at::ScalarType dtype) {
    std::visit([&](auto& encoder) { encoder.to(device, dtype); }, encoder_);
  }

 private:
  using Encoder = std::variant<ip2p::ClipTextEncoder, ip2p::OnDemand<ip2p::ClipTextEncoder>>;
  Encoder encoder_;
};

/// The codec that the model's configuration names, in memory or loaded for each call and tiled; satisfies
/// `ip2p::ImageCodec`.
class AnyCodec {
 public:
  AnyCodec(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options, bool on_demand)
      : codec_(choose(files, options, on_demand)) {}

  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    return std::visit([&](const auto& codec) -> at::Tensor { return codec.encode(images); }, codec_);
  }
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    return std::visit([&](const auto& codec) -> at::Tensor { return codec.decode(latents); }, codec_);
  }
  [[nodiscard]] double scaling_factor() const {
    return std::visit([](const auto& codec) -> double { return codec.scaling_factor(); }, codec_);
  }
  [[nodiscard]] std::int64_t downscale() const {
    return std::visit([](const auto& codec) -> std::int64_t { return codec.downscale(); }, codec_);
  }
  [[nodiscard]] std::int64_t latent_channels() const {
    return std::visit([](const auto& codec) -> std::int64_t { return codec.latent_channels(); }, codec_);
  }
  void to(at::Device device, at::ScalarType dtype) {
    std::visit([&](auto& codec) { codec.to(device, dtype); }, codec_);
  }
  /// As `ip2p::ModelHandle::first_non_finite`; empty for a codec that is not in memory.
  template <class Evaluate>
  [[nodiscard]] std::string first_non_finite(Evaluate&& evaluate) const {
    return std::visit(
        [&](const auto& codec) -> std::string {
          if constexpr (requires { codec.first_non_finite(evaluate); }) return codec.first_non_finite(evaluate);
          return {};
        },
        codec_);
  }

 private:
  template <class Codec>
  using OnDemandTiles = ip2p::Tiled<ip2p::OnDemand<Codec>>;
  using Codec = std::variant<ip2p::KlAutoencoder, ip2p::TinyAutoencoder, OnDemandTiles<ip2p::KlAutoencoder>,
                             OnDemandTiles<ip2p::TinyAutoencoder>>;

  template <class Chosen>
  static Codec make(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options, bool on_demand) {
    if (on_demand) return OnDemandTiles<Chosen>(ip2p::OnDemand<Chosen>(files, options));
    return ip2p::load<Chosen>(files, options);
  }

  static Codec choose(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options, bool on_demand) {
    const bool tiny = files.config("vae").value("_class_name", "") == "AutoencoderTiny";
    return tiny ? make<ip2p::TinyAutoencoder>(files, options, on_demand)
                : make<ip2p::KlAutoencoder>(files, options, on_demand);
  }

  Codec codec_;
};

}  // namespace example
