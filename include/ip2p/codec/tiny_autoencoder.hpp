#pragma once

/// \file
/// TAESD, a small distilled autoencoder for Stable Diffusion's latents (diffusers `AutoencoderTiny`).

#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/config_keys.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/model.hpp"

namespace ip2p {

/// Shape of a `TinyAutoencoder`. The default is TAESD for SD1.x and SD2.x.
struct TinyAutoencoderConfig {
  std::int64_t latent_channels = 4;                      ///< Channels of the latents.
  std::int64_t channels = 64;                            ///< The same at every resolution.
  std::vector<std::int64_t> encoder_blocks{1, 3, 3, 3};  ///< Blocks per resolution, finest first.
  std::vector<std::int64_t> decoder_blocks{3, 3, 3, 1};  ///< Blocks per resolution, coarsest first.
  double scaling_factor = 1.0;                           ///< 1: TAESD's latents are the ones the denoiser sees.

  /// Reads diffusers' config.json; missing fields take their defaults. \param where named in errors
  /// \throws Error naming the key, for values of a wrong type or out of range, for another network than TAESD's, and
  ///   for channel lists that are not uniform
  static TinyAutoencoderConfig from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "an AutoencoderTiny", where);
    detail::require_supported(json, detail::tiny_autoencoder_keys, where);
    TinyAutoencoderConfig config;
    detail::read_field(json, "latent_channels", config.latent_channels, where);
    detail::read_field(json, "scaling_factor", config.scaling_factor, where);
    detail::read_field(json, "num_encoder_blocks", config.encoder_blocks, where);
    detail::read_field(json, "num_decoder_blocks", config.decoder_blocks, where);
    std::vector<std::int64_t> encoder(config.encoder_blocks.size(), config.channels);
    std::vector<std::int64_t> decoder(config.decoder_blocks.size(), config.channels);
    detail::read_field(json, "encoder_block_out_channels", encoder, where);
    config.channels = encoder.front();
    config.require_uniform(encoder, config.encoder_blocks.size(), where, "encoder_block_out_channels");
    if (json.contains("decoder_block_out_channels")) {
      detail::read_field(json, "decoder_block_out_channels", decoder, where);
      config.require_uniform(decoder, config.decoder_blocks.size(), where, "decoder_block_out_channels");
    }
    config.validate(where, {"encoder_block_out_channels", "num_encoder_blocks", "num_decoder_blocks"});
    return config;
  }

  /// The configuration in diffusers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    return {{"_class_name", "AutoencoderTiny"},
            {"in_channels", 3},
            {"out_channels", 3},
            {"latent_channels", latent_channels},
            {"encoder_block_out_channels", std::vector<std::int64_t>(encoder_blocks.size(), channels)},
            {"decoder_block_out_channels", std::vector<std::int64_t>(decoder_blocks.size(), channels)},
            {"num_encoder_blocks", encoder_blocks},
            {"num_decoder_blocks", decoder_blocks},
            {"act_fn", "relu"},
            {"scaling_factor", scaling_factor}};
  }

  /// What messages call the fields: as they are called here, or in a file.
  struct Names {
    const char* channels = "channels";              ///< Of `channels`.
    const char* encoder_blocks = "encoder_blocks";  ///< Of `encoder_blocks`.
    const char* decoder_blocks = "decoder_blocks";  ///< Of `decoder_blocks`.
  };

  /// \throws Error for values that are not positive, more than 1000 blocks at a resolution, and unless encoder and
  ///   decoder have the same number of resolutions, 1 to 16
  void validate(const std::string& where) const { validate(where, Names()); }
  /// The same under other names of the fields.
  void validate(const std::string& where, const Names& names) const {
    require(latent_channels > 0, "{}: latent_channels: expected at least 1, found {}", where, latent_channels);
    require(channels > 0, "{}: {}: expected at least 1, found {}", where, names.channels, channels);
    require(std::isfinite(scaling_factor) && scaling_factor > 0,
            "{}: scaling_factor: expected a positive number, found {}", where, scaling_factor);
    for (const auto& [name, blocks] :
         {std::pair{names.encoder_blocks, &encoder_blocks}, std::pair{names.decoder_blocks, &decoder_blocks}}) {
      require(!blocks->empty() && blocks->size() <= 16, "{}: {}: expected 1 to 16 resolutions, found {}", where, name,
              blocks->size());
      for (const auto count : *blocks) {
        require(count >= 0 && count <= 1000, "{}: {}: expected 0 to 1000 blocks at a resolution, found {}", where, name,
                count);
      }
    }
    require(decoder_blocks.size() == encoder_blocks.size(),
            "{}: {}: expected {} resolutions, as many as in {}, found {}", where, names.decoder_blocks,
            encoder_blocks.size(), names.encoder_blocks, decoder_blocks.size());
  }

 private:
  void require_uniform(const std::vector<std::int64_t>& widths, std::size_t resolutions, const std::string& where,
                       const char* key) const {
    require(widths.size() == resolutions, "{}: {}: expected one entry for each of {} resolutions, found {}", where, key,
            resolutions, widths.size());
    for (const auto width : widths) {
      require(width == channels,
              "{}: {}: expected one width for all resolutions of encoder and decoder, found {} and {}", where, key,
              channels, width);
    }
  }
};

namespace detail {

/// relu(conv relu conv relu conv (x) + x)
struct TinyBlock : Module {
  explicit TinyBlock(std::int64_t channels) {
    auto list = register_group("conv");
    for (std::size_t i = 0; i < 3; ++i) {
      convs.push_back(
          list->register_module(std::to_string(2 * i), std::make_shared<Conv2d>(channels, channels, 3, 1, 1)));
    }
  }

  at::Tensor operator()(const at::Tensor& x) const {
    return at::relu((*convs[2])(at::relu((*convs[1])(at::relu((*convs[0])(x))))) + x);
  }

  std::vector<std::shared_ptr<Conv2d>> convs;
};

/// A numbered list of layers. Some of them (activations, upsampling) have no weights but still take up a number.
struct TinyLayers : Module {
  TinyLayers() { list_ = register_group("layers"); }

  template <class Layer>
  void add(std::shared_ptr<Layer> layer) {
    list_->register_module(std::to_string(layers_.size()), layer);
    layers_.push_back([layer](const at::Tensor& x) { return (*layer)(x); });
  }

  void add_function(std::function<at::Tensor(const at::Tensor&)> function) { layers_.push_back(std::move(function)); }

  at::Tensor operator()(at::Tensor x) const {
    for (const auto& layer : layers_) x = layer(x);
    return x;
  }

 private:
  std::shared_ptr<Module> list_;
  std::vector<std::function<at::Tensor(const at::Tensor&)>> layers_;
};

struct TinyAutoencoderModule : Module {
  explicit TinyAutoencoderModule(TinyAutoencoderConfig config_) : config(std::move(config_)) {
    config.validate("TinyAutoencoderConfig");
    const auto width = config.channels;
    const auto z = config.latent_channels;
    encoder = register_module("encoder", std::make_shared<TinyLayers>());
    for (std::size_t i = 0; i < config.encoder_blocks.size(); ++i) {
      encoder->add(i == 0 ? std::make_shared<Conv2d>(3, width, 3, 1, 1)
                          : std::make_shared<Conv2d>(width, width, 3, 2, 1, false));
      for (std::int64_t j = 0; j < config.encoder_blocks[i]; ++j) encoder->add(std::make_shared<TinyBlock>(width));
    }
    encoder->add(std::make_shared<Conv2d>(width, z, 3, 1, 1));

    decoder = register_module("decoder", std::make_shared<TinyLayers>());
    decoder->add(std::make_shared<Conv2d>(z, width, 3, 1, 1));
    decoder->add_function([](const at::Tensor& x) { return at::relu(x); });
    for (std::size_t i = 0; i < config.decoder_blocks.size(); ++i) {
      for (std::int64_t j = 0; j < config.decoder_blocks[i]; ++j) decoder->add(std::make_shared<TinyBlock>(width));
      const bool last = i + 1 == config.decoder_blocks.size();
      if (!last) {
        decoder->add_function([](const at::Tensor& x) {
          return at::upsample_nearest2d(x, at::IntArrayRef{2 * x.size(2), 2 * x.size(3)});
        });
      }
      decoder->add(std::make_shared<Conv2d>(width, last ? 3 : width, 3, 1, 1, last));
    }
  }

  TinyAutoencoderConfig config;
  std::shared_ptr<TinyLayers> encoder, decoder;
};

}  // namespace detail

/// AutoencoderTiny: a few convolutions instead of the 84 M parameters of `KlAutoencoder`. Faster but less accurate.
class TinyAutoencoder : public ModelHandle<detail::TinyAutoencoderModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = TinyAutoencoderConfig;
  static constexpr const char* component = "vae";  ///< Name of its folder in a model.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit TinyAutoencoder(TinyAutoencoderConfig config)
      : ModelHandle(std::make_shared<detail::TinyAutoencoderModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const TinyAutoencoderConfig& config() const { return module_->config; }
  /// Factor of the latents that the network sees.
  [[nodiscard]] double scaling_factor() const { return config().scaling_factor; }
  /// Channels of the latents.
  [[nodiscard]] std::int64_t latent_channels() const { return config().latent_channels; }
  /// Pixels per latent pixel along each side.
  [[nodiscard]] std::int64_t downscale() const { return std::int64_t{1} << (config().encoder_blocks.size() - 1); }

  /// \param images [B,3,H,W] in [-1,1], sides multiples of `downscale()`  \return latents [B,C,H/f,W/f]
  /// \throws Error for another shape
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    require(images.defined() && images.dim() == 4 && images.size(1) == 3 && images.size(2) > 0 && images.size(3) > 0 &&
                images.size(2) % downscale() == 0 && images.size(3) % downscale() == 0,
            "TinyAutoencoder: images: expected [B, 3, H, W] with sides that are multiples of {}, found {}", downscale(),
            tensor_text(images));
    return (*module_->encoder)(
        images.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast).add(1).div_(2));
  }

  /// \param latents [B,C,h,w]  \return images [B,3,f*h,f*w], nominally in [-1,1]  \throws Error for another shape
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    require(latents.defined() && latents.dim() == 4 && latents.size(1) == latent_channels() && latents.size(2) > 0 &&
                latents.size(3) > 0,
            "TinyAutoencoder: latents: expected [B, {}, h, w], found {}", latent_channels(), tensor_text(latents));
    const auto z = latents.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast);
    return (*module_->decoder)(at::tanh(z / 3) * 3).mul(2).sub(1);
  }
};
static_assert(ImageCodec<TinyAutoencoder>);

}  // namespace ip2p
