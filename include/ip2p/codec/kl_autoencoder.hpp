#pragma once

/// \file
/// The variational autoencoder of Stable Diffusion (diffusers `AutoencoderKL`).

#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/fused_attention.hpp"
#include "ip2p/codec/concepts.hpp"
#include "ip2p/codec/kl_autoencoder_config.hpp"
#include "ip2p/codec/latent_moments.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/model.hpp"

namespace ip2p {

namespace detail {

/// Single-head attention over all pixels, with the fused projection of nn/state.hpp.
struct PixelAttention : Module {
  PixelAttention(std::int64_t channels, std::int64_t groups) {
    group_norm = register_module("group_norm", std::make_shared<GroupNorm>(groups, channels, 1e-6));
    to_qkv = register_module("to_qkv", std::make_shared<Linear>(channels, 3 * channels));
    to_out = register_group("to_out")->register_module("0", std::make_shared<Linear>(channels, channels));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const auto tokens = (*group_norm)(x).permute({0, 2, 3, 1}).flatten(1, 2);
    const auto qkv = (*to_qkv)(tokens).unsqueeze(1).chunk(3, -1);
    const auto mixed = attention(qkv[0], qkv[1], qkv[2]).squeeze(1);
    return x + (*to_out)(mixed).unflatten(1, {x.size(2), x.size(3)}).permute({0, 3, 1, 2});
  }

  std::shared_ptr<GroupNorm> group_norm;
  std::shared_ptr<Linear> to_qkv, to_out;
};

/// Residual block, attention, residual block at the coarsest resolution.
struct AutoencoderMiddle : Module {
  AutoencoderMiddle(std::int64_t channels, std::int64_t groups) {
    auto resnets = register_group("resnets");
    auto attentions = register_group("attentions");
    first = resnets->register_module("0", std::make_shared<ResnetBlock>(channels, channels, 0, groups, 1e-6));
    attention = attentions->register_module("0", std::make_shared<PixelAttention>(channels, groups));
    second = resnets->register_module("1", std::make_shared<ResnetBlock>(channels, channels, 0, groups, 1e-6));
  }

  at::Tensor operator()(const at::Tensor& x) const { return (*second)((*attention)((*first)(x))); }

  std::shared_ptr<ResnetBlock> first, second;
  std::shared_ptr<PixelAttention> attention;
};

/// One resolution of either path.
struct AutoencoderStage : Module {
  AutoencoderStage(std::int64_t in, std::int64_t out, std::int64_t layers, std::int64_t groups) {
    auto list = register_group("resnets");
    for (std::int64_t i = 0; i < layers; ++i) {
      resnets.push_back(list->register_module(std::to_string(i),
                                              std::make_shared<ResnetBlock>(i == 0 ? in : out, out, 0, groups, 1e-6)));
    }
  }

  at::Tensor operator()(at::Tensor x) const {
    for (const auto& resnet : resnets) x = (*resnet)(x);
    if (downsampler) return (*downsampler)(x);
    if (upsampler) return (*upsampler)(x, 2 * x.size(2), 2 * x.size(3));
    return x;
  }

  std::vector<std::shared_ptr<ResnetBlock>> resnets;
  std::shared_ptr<Downsample> downsampler;
  std::shared_ptr<Upsample> upsampler;
};

struct AutoencoderEncoder : Module {
  explicit AutoencoderEncoder(const KlAutoencoderConfig& config) {
    const auto& width = config.block_out_channels;
    conv_in = register_module("conv_in", std::make_shared<Conv2d>(3, width[0], 3, 1, 1));
    auto list = register_group("down_blocks");
    for (std::size_t i = 0; i < width.size(); ++i) {
      auto stage = std::make_shared<AutoencoderStage>(width[i == 0 ? 0 : i - 1], width[i], config.layers_per_block,
                                                      config.norm_num_groups);
      if (i + 1 < width.size()) {
        stage->downsampler =
            stage->register_group("downsamplers")->register_module("0", std::make_shared<Downsample>(width[i], true));
      }
      stages.push_back(list->register_module(std::to_string(i), stage));
    }
    middle = register_module("mid_block", std::make_shared<AutoencoderMiddle>(width.back(), config.norm_num_groups));
    norm_out =
        register_module("conv_norm_out", std::make_shared<GroupNorm>(config.norm_num_groups, width.back(), 1e-6));
    conv_out = register_module("conv_out", std::make_shared<Conv2d>(width.back(), 2 * config.latent_channels, 3, 1, 1));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    auto h = (*conv_in)(x);
    for (const auto& stage : stages) h = (*stage)(h);
    return (*conv_out)(norm_out->silu((*middle)(h)));
  }

  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::vector<std::shared_ptr<AutoencoderStage>> stages;
  std::shared_ptr<AutoencoderMiddle> middle;
  std::shared_ptr<GroupNorm> norm_out;
};

struct AutoencoderDecoder : Module {
  explicit AutoencoderDecoder(const KlAutoencoderConfig& config) {
    const std::vector<std::int64_t> width(config.block_out_channels.rbegin(), config.block_out_channels.rend());
    conv_in = register_module("conv_in", std::make_shared<Conv2d>(config.latent_channels, width[0], 3, 1, 1));
    middle = register_module("mid_block", std::make_shared<AutoencoderMiddle>(width[0], config.norm_num_groups));
    auto list = register_group("up_blocks");
    for (std::size_t i = 0; i < width.size(); ++i) {
      auto stage = std::make_shared<AutoencoderStage>(width[i == 0 ? 0 : i - 1], width[i], config.layers_per_block + 1,
                                                      config.norm_num_groups);
      if (i + 1 < width.size()) {
        stage->upsampler =
            stage->register_group("upsamplers")->register_module("0", std::make_shared<Upsample>(width[i]));
      }
      stages.push_back(list->register_module(std::to_string(i), stage));
    }
    norm_out =
        register_module("conv_norm_out", std::make_shared<GroupNorm>(config.norm_num_groups, width.back(), 1e-6));
    conv_out = register_module("conv_out", std::make_shared<Conv2d>(width.back(), 3, 3, 1, 1));
  }

  at::Tensor operator()(const at::Tensor& z) const {
    auto h = (*middle)((*conv_in)(z));
    for (const auto& stage : stages) h = (*stage)(h);
    return (*conv_out)(norm_out->silu(h));
  }

  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::vector<std::shared_ptr<AutoencoderStage>> stages;
  std::shared_ptr<AutoencoderMiddle> middle;
  std::shared_ptr<GroupNorm> norm_out;
};

struct KlAutoencoderModule : Module {
  explicit KlAutoencoderModule(KlAutoencoderConfig config_) : config(std::move(config_)) {
    config.validate("KlAutoencoderConfig");
    const auto z = config.latent_channels;
    encoder = register_module("encoder", std::make_shared<AutoencoderEncoder>(config));
    decoder = register_module("decoder", std::make_shared<AutoencoderDecoder>(config));
    quant_conv = register_module("quant_conv", std::make_shared<Conv2d>(2 * z, 2 * z, 1));
    post_quant_conv = register_module("post_quant_conv", std::make_shared<Conv2d>(z, z, 1));
  }

  KlAutoencoderConfig config;
  std::shared_ptr<AutoencoderEncoder> encoder;
  std::shared_ptr<AutoencoderDecoder> decoder;
  std::shared_ptr<Conv2d> quant_conv, post_quant_conv;
};

}  // namespace detail

/// AutoencoderKL of SD1.x and SD2.x.
class KlAutoencoder : public ModelHandle<detail::KlAutoencoderModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = KlAutoencoderConfig;
  static constexpr const char* component = "vae";  ///< Name of the model's folder.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit KlAutoencoder(KlAutoencoderConfig config)
      : ModelHandle(std::make_shared<detail::KlAutoencoderModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const KlAutoencoderConfig& config() const { return module_->config; }
  /// Factor of the latents that the network sees.
  [[nodiscard]] double scaling_factor() const { return config().scaling_factor; }
  /// Channels of the latents.
  [[nodiscard]] std::int64_t latent_channels() const { return config().latent_channels; }
  /// Pixels per latent pixel along each side; 8 for Stable Diffusion.
  [[nodiscard]] std::int64_t downscale() const { return std::int64_t{1} << (config().block_out_channels.size() - 1); }

  /// Posterior over latents, not scaled. \param images [B,3,H,W] in [-1,1], sides multiples of `downscale()`
  /// \throws Error for another shape
  [[nodiscard]] LatentMoments encode_moments(const at::Tensor& images) const {
    require(images.defined() && images.dim() == 4 && images.size(1) == 3 && images.size(2) > 0 && images.size(3) > 0 &&
                images.size(2) % downscale() == 0 && images.size(3) % downscale() == 0,
            "KlAutoencoder: images: expected [B, 3, H, W] with sides that are multiples of {}, found {}", downscale(),
            tensor_text(images));
    const auto x = images.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast);
    const auto moments = (*module_->quant_conv)((*module_->encoder)(x)).chunk(2, 1);
    return {moments[0], at::clamp(moments[1], LatentMoments::least_logvar, LatentMoments::most_logvar)};
  }

  /// Mode of the posterior, not scaled (what InstructPix2Pix conditions on).
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const { return encode_moments(images).mean; }

  /// \param latents [B,C,h,w], not scaled (divided by `scaling_factor()` already)
  /// \return [B,3,f*h,f*w], nominally in [-1,1], not clamped  \throws Error for another shape
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    require(latents.defined() && latents.dim() == 4 && latents.size(1) == latent_channels() && latents.size(2) > 0 &&
                latents.size(3) > 0,
            "KlAutoencoder: latents: expected [B, {}, h, w], found {}", latent_channels(), tensor_text(latents));
    const auto z = latents.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast);
    return (*module_->decoder)((*module_->post_quant_conv)(z));
  }
};
static_assert(ImageCodec<KlAutoencoder>);

}  // namespace ip2p
