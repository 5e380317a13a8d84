#pragma once

/// \file
/// The deep compression autoencoder (Chen et al. 2024, arXiv:2410.10733; diffusers `AutoencoderDC`), made of residual
/// blocks alone.

#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/codec/dc_autoencoder_config.hpp"
#include "ip2p/codec/latent_moments.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"

namespace ip2p {

namespace detail {

/// Divides each pixel by the root mean square of its channels. New weights are 1 and 0.
struct PixelNorm : Module {
  explicit PixelNorm(std::int64_t channels) {
    weight = register_parameter("weight", at::ones({channels}));
    bias = register_parameter("bias", at::zeros({channels}));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    constexpr double eps = 1e-5;
    const auto wide = x.to(at::kFloat);
    const auto scale = at::rsqrt(wide.square().mean({1}, true) + eps);
    return probed(this, (x * scale.to(x.scalar_type())).mul(across(x, weight)).add(across(x, bias)));
  }

  at::Tensor weight, bias;  ///< [channels]

 private:
  static at::Tensor across(const at::Tensor& x, const at::Tensor& values) {
    return values.to(x.scalar_type()).view({1, -1, 1, 1});
  }
};

/// x + norm(conv silu conv (x))
struct DcBlock : Module {
  explicit DcBlock(std::int64_t channels) {
    conv1 = register_module("conv1", std::make_shared<Conv2d>(channels, channels, 3, 1, 1));
    conv2 = register_module("conv2", std::make_shared<Conv2d>(channels, channels, 3, 1, 1, false));
    norm = register_module("norm", std::make_shared<PixelNorm>(channels));
  }

  at::Tensor operator()(const at::Tensor& x) const { return (*norm)((*conv2)(at::silu((*conv1)(x)))) + x; }

  std::shared_ptr<Conv2d> conv1, conv2;
  std::shared_ptr<PixelNorm> norm;
};

/// Halves the sides: a convolution whose pixels of 2x2 become channels, plus, where there is a shortcut, the input's
/// pixels of 2x2 as channels, averaged in groups.
struct DcDown : Module {
  DcDown(std::int64_t in, std::int64_t out_, bool shortcut_) : out(out_), shortcut(shortcut_) {
    conv = register_module("conv", std::make_shared<Conv2d>(in, out / 4, 3, 1, 1));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const auto y = at::pixel_unshuffle((*conv)(x), 2);
    return shortcut ? y + at::pixel_unshuffle(x, 2).unflatten(1, {out, -1}).mean({2}) : y;
  }

  std::shared_ptr<Conv2d> conv;
  std::int64_t out;
  bool shortcut;
};

/// Doubles the sides: the reverse, with repeated channels as the shortcut.
struct DcUp : Module {
  DcUp(std::int64_t in, std::int64_t out, bool shortcut_) : repeats(4 * out / in), shortcut(shortcut_) {
    conv = register_module("conv", std::make_shared<Conv2d>(in, 4 * out, 3, 1, 1));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const auto y = (*conv)(x);
    return at::pixel_shuffle(shortcut ? y + repeated(x, repeats) : y, 2);
  }

  /// Each channel `times` times in a row.
  static at::Tensor repeated(const at::Tensor& x, std::int64_t times) {
    return x.unsqueeze(2).expand({-1, -1, times, -1, -1}).flatten(1, 2);
  }

  std::shared_ptr<Conv2d> conv;
  std::int64_t repeats;
  bool shortcut;
};

/// One resolution of either path: `up` first in the decoder, `down` last in the encoder.
struct DcStage : Module {
  at::Tensor operator()(at::Tensor x) const {
    if (up) x = (*up)(x);
    for (const auto& block : blocks) x = (*block)(x);
    return down ? (*down)(x) : x;
  }

  void add_blocks(std::int64_t channels, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      blocks.push_back(register_module(std::to_string((up ? 1 : 0) + i), std::make_shared<DcBlock>(channels)));
    }
  }

  std::shared_ptr<DcUp> up;
  std::vector<std::shared_ptr<DcBlock>> blocks;
  std::shared_ptr<DcDown> down;
};

struct DcEncoder : Module {
  explicit DcEncoder(const DcAutoencoderConfig& config)
      : groups(config.latent_channels), halves(config.encoder_layers_per_block.front() == 0) {
    const auto& width = config.encoder_block_out_channels;
    const auto& layers = config.encoder_layers_per_block;
    if (halves) {
      down_in = register_module("conv_in", std::make_shared<DcDown>(3, width[1], false));
    } else {
      conv_in = register_module("conv_in", std::make_shared<Conv2d>(3, width[0], 3, 1, 1));
    }
    auto list = register_group("down_blocks");
    for (std::size_t i = 0; i < width.size(); ++i) {
      auto stage = list->register_module(std::to_string(i), std::make_shared<DcStage>());
      stage->add_blocks(width[i], layers[i]);
      if (i + 1 < width.size() && layers[i] > 0) {
        stage->down =
            stage->register_module(std::to_string(layers[i]), std::make_shared<DcDown>(width[i], width[i + 1], true));
      }
      stages.push_back(stage);
    }
    conv_out = register_module("conv_out", std::make_shared<Conv2d>(width.back(), config.latent_channels, 3, 1, 1));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    auto h = halves ? (*down_in)(x) : (*conv_in)(x);
    for (const auto& stage : stages) h = (*stage)(h);
    return (*conv_out)(h) + h.unflatten(1, {groups, -1}).mean({2});
  }

  std::int64_t groups;
  bool halves;
  std::shared_ptr<DcDown> down_in;
  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::vector<std::shared_ptr<DcStage>> stages;
};

struct DcDecoder : Module {
  explicit DcDecoder(const DcAutoencoderConfig& config)
      : repeats(config.decoder_block_out_channels.back() / config.latent_channels),
        doubles(config.decoder_layers_per_block.front() == 0) {
    const auto& width = config.decoder_block_out_channels;
    const auto& layers = config.decoder_layers_per_block;
    conv_in = register_module("conv_in", std::make_shared<Conv2d>(config.latent_channels, width.back(), 3, 1, 1));
    auto list = register_group("up_blocks");
    for (std::size_t i = 0; i < width.size(); ++i) {
      auto stage = list->register_module(std::to_string(i), std::make_shared<DcStage>());
      if (i + 1 < width.size() && layers[i] > 0) {
        stage->up = stage->register_module("0", std::make_shared<DcUp>(width[i + 1], width[i], true));
      }
      stage->add_blocks(width[i], layers[i]);
      stages.push_back(stage);
    }
    const auto last = width[doubles ? 1 : 0];
    norm_out = register_module("norm_out", std::make_shared<PixelNorm>(last));
    if (doubles) {
      up_out = register_module("conv_out", std::make_shared<DcUp>(last, 3, false));
    } else {
      conv_out = register_module("conv_out", std::make_shared<Conv2d>(last, 3, 3, 1, 1));
    }
  }

  at::Tensor operator()(const at::Tensor& z) const {
    auto h = (*conv_in)(z) + DcUp::repeated(z, repeats);
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) h = (**stage)(h);
    h = at::relu((*norm_out)(h));
    return doubles ? (*up_out)(h) : (*conv_out)(h);
  }

  std::int64_t repeats;
  bool doubles;
  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::shared_ptr<DcUp> up_out;
  std::vector<std::shared_ptr<DcStage>> stages;  ///< Finest first.
  std::shared_ptr<PixelNorm> norm_out;
};

struct DcAutoencoderModule : Module {
  explicit DcAutoencoderModule(DcAutoencoderConfig config_) : config(std::move(config_)) {
    config.validate("DcAutoencoderConfig");
    encoder = register_module("encoder", std::make_shared<DcEncoder>(config));
    decoder = register_module("decoder", std::make_shared<DcDecoder>(config));
  }

  DcAutoencoderConfig config;
  std::shared_ptr<DcEncoder> encoder;
  std::shared_ptr<DcDecoder> decoder;
};

}  // namespace detail

/// AutoencoderDC with residual blocks: most of its work is done at the coarse resolutions, whose pixels hold blocks of
/// the finer ones as channels, so a net of a few million values is several times as fast as a `KlAutoencoder` of that
/// size and just as sharp. Its latents have no variance.
class DcAutoencoder : public ModelHandle<detail::DcAutoencoderModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = DcAutoencoderConfig;
  static constexpr const char* component = "vae";  ///< Name of its folder in a model.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit DcAutoencoder(DcAutoencoderConfig config)
      : ModelHandle(std::make_shared<detail::DcAutoencoderModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const DcAutoencoderConfig& config() const { return module_->config; }
  /// Factor of the latents that the network sees.
  [[nodiscard]] double scaling_factor() const { return config().scaling_factor; }
  /// Channels of the latents.
  [[nodiscard]] std::int64_t latent_channels() const { return config().latent_channels; }
  /// Pixels per latent pixel along each side.
  [[nodiscard]] std::int64_t downscale() const {
    return std::int64_t{1} << (config().encoder_block_out_channels.size() - 1);
  }

  /// \param images [B,3,H,W] in [-1,1], sides multiples of `downscale()`  \return latents [B,C,H/f,W/f], not scaled
  /// \throws Error for another shape
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    require(images.defined() && images.dim() == 4 && images.size(1) == 3 && images.size(2) > 0 && images.size(3) > 0 &&
                images.size(2) % downscale() == 0 && images.size(3) % downscale() == 0,
            "DcAutoencoder: images: expected [B, 3, H, W] with sides that are multiples of {}, found {}", downscale(),
            tensor_text(images));
    return (*module_->encoder)(images.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast));
  }

  /// The same as a posterior with the least variance that moments have, for training (`PosteriorCodec`).
  /// \throws Error as `encode`
  [[nodiscard]] LatentMoments encode_moments(const at::Tensor& images) const {
    const auto latents = encode(images);
    return {latents, at::full_like(latents, LatentMoments::least_logvar)};
  }

  /// \param latents [B,C,h,w], not scaled (divided by `scaling_factor()` already)
  /// \return [B,3,f*h,f*w], nominally in [-1,1], not clamped  \throws Error for another shape
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    require(latents.defined() && latents.dim() == 4 && latents.size(1) == latent_channels() && latents.size(2) > 0 &&
                latents.size(3) > 0,
            "DcAutoencoder: latents: expected [B, {}, h, w], found {}", latent_channels(), tensor_text(latents));
    return (*module_->decoder)(latents.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast));
  }
};
static_assert(ImageCodec<DcAutoencoder>);

}  // namespace ip2p
