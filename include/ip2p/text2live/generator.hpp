#pragma once

/// \file
/// The network that Text2LIVE trains on one picture: it maps the picture to a layer of colours with an opacity.

#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/reflection_pad2d.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/text2live/edit_layer.hpp"

namespace ip2p {

/// Shape of an `EditLayerNetwork`. The default is the published one.
struct EditLayerConfig {
  std::int64_t scales = 7;         ///< Times the picture is halved, 1 to 16.
  std::int64_t channels = 128;     ///< Of every scale, >= 1.
  std::int64_t skip_channels = 4;  ///< Of each scale's skip connection, >= 1.

  /// \throws Error for values out of range
  void validate() const {
    require(scales >= 1 && scales <= 16, "edit layer: scales: expected 1 to 16, found {}", scales);
    require(channels >= 1 && skip_channels >= 1, "edit layer: expected channels of at least 1, found {} and {}",
            channels, skip_channels);
  }

  /// Shortest side of a picture for which the smallest map still has two rows, as padding and statistics require.
  [[nodiscard]] std::int64_t shortest_side() const { return (std::int64_t{1} << scales) + 1; }
};

namespace detail {

/// Normalises each channel over batch and picture, always with the current call's statistics: the network is used on
/// the picture that it was trained on.
struct PictureNorm : Module {
  explicit PictureNorm(std::int64_t channels) {
    weight = register_parameter("weight", at::empty({channels}).fill_(1));
    bias = register_parameter("bias", at::empty({channels}).zero_());
  }

  at::Tensor operator()(const at::Tensor& x) const {
    return at::batch_norm(x, weight, bias, {}, {}, /*training=*/true, 0.0, 1e-5, /*cudnn_enabled=*/true);
  }

  at::Tensor weight, bias;
};

/// Reflection padding, convolution, optional normalisation, leaky ReLU.
struct EditConv : Module {
  EditConv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride = 1, bool normalised = true)
      : pad(kernel / 2) {
    conv = register_module("conv", std::make_shared<Conv2d>(in, out, kernel, stride));
    if (normalised) norm = register_module("norm", std::make_shared<PictureNorm>(out));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const auto y = (*conv)(pad > 0 ? at::reflection_pad2d(x, {pad, pad, pad, pad}) : x);
    return at::leaky_relu(norm ? (*norm)(y) : y, 0.2);
  }

  std::int64_t pad;
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<PictureNorm> norm;
};

/// One scale: a narrow skip path, and a wide path through half the resolution.
struct EditScale : Module {
  EditScale(const EditLayerConfig& config, std::int64_t in, bool outermost) {
    const auto wide = config.channels, joined_channels = config.skip_channels + wide;
    skip = register_module("skip", std::make_shared<EditConv>(in, config.skip_channels, 1));
    down = register_module("down", std::make_shared<EditConv>(in, wide, 3, 2));
    deep = register_module("deep", std::make_shared<EditConv>(wide, wide, 3));
    joined = register_module("joined", std::make_shared<PictureNorm>(joined_channels));
    up = register_module("up", std::make_shared<EditConv>(joined_channels, wide, 3));
    mix = register_module("mix", std::make_shared<EditConv>(wide, wide, 1, 1, !outermost));
  }

  std::shared_ptr<EditConv> skip, down, deep, up, mix;
  std::shared_ptr<PictureNorm> joined;
};

struct EditLayerModule : Module {
  explicit EditLayerModule(const EditLayerConfig& config_) : config(config_) {
    config.validate();
    auto list = register_group("scales");
    for (std::int64_t i = 0; i < config.scales; ++i) {
      const auto in = i == 0 ? std::int64_t{3} : config.channels;
      scales.push_back(list->register_module(std::to_string(i), std::make_shared<EditScale>(config, in, i == 0)));
    }
    out = register_module("out", std::make_shared<Conv2d>(config.channels, 4, 1));
  }

  /// \param x input of scale i  \return its output, up to one pixel smaller on odd sides
  [[nodiscard]] at::Tensor scale(std::size_t i, const at::Tensor& x) const {
    const auto& level = *scales[i];
    auto deep = (*level.deep)((*level.down)(x));
    if (i + 1 < scales.size()) deep = scale(i + 1, deep);
    deep = at::upsample_bilinear2d(deep, {deep.size(2) * 2, deep.size(3) * 2}, /*align_corners=*/false, 2.0, 2.0);
    const auto skip = (*level.skip)(x);
    const auto h = std::min(skip.size(2), deep.size(2)), w = std::min(skip.size(3), deep.size(3));
    const auto middle = [&](const at::Tensor& map) {
      return map.narrow(2, (map.size(2) - h) / 2, h).narrow(3, (map.size(3) - w) / 2, w);
    };
    return (*level.mix)((*level.up)((*level.joined)(at::cat({middle(skip), middle(deep)}, 1))));
  }

  EditLayerConfig config;
  std::vector<std::shared_ptr<EditScale>> scales;
  std::shared_ptr<Conv2d> out;
};

/// Kernel [3, 3, 1, 1] of a 1x1 convolution from decorrelated colours to RGB: the square root of the covariance of
/// natural pictures' colours with its brightness divided by 1.6, as in the released code.
inline at::Tensor colour_mixing() {
  auto mixing = at::tensor({0.26, 0.09, 0.02, 0.27, 0.00, -0.05, 0.27, -0.09, 0.03}, at::kFloat).view({3, 3});
  mixing = mixing / at::tensor({1.6, 1.0, 1.0}, at::kFloat);
  return (mixing / mixing.pow(2).sum(0).sqrt().max()).view({3, 3, 1, 1});
}

}  // namespace detail

/// The skip network of Text2LIVE (Bar-Tal et al. 2022, after Ulyanov et al. 2018): an hourglass with reflection
/// padding, bilinear upsampling and a final sigmoid. Its four outputs are red, green, blue and opacity.
class EditLayerNetwork : public ModelHandle<detail::EditLayerModule> {
 public:
  /// What it is made from.
  using Config = EditLayerConfig;

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit EditLayerNetwork(const EditLayerConfig& config)
      : ModelHandle(std::make_shared<detail::EditLayerModule>(config)) {}

  /// The shape that it was made with.
  [[nodiscard]] const EditLayerConfig& config() const { return module_->config; }

  /// Fresh weights by PyTorch's default initialisation, determined by the seed.
  void initialise(std::uint64_t seed) { ip2p::initialise(*module_, seed); }

  /// \param picture [1, 3, H, W] in [0, 1], both sides at least `config().shortest_side()`
  /// \return a layer of the picture's size  \throws Error for another shape
  [[nodiscard]] EditLayer operator()(const at::Tensor& picture) const {
    const auto least = config().shortest_side();
    require(picture.dim() == 4 && picture.size(0) == 1 && picture.size(1) == 3 && picture.size(2) >= least &&
                picture.size(3) >= least,
            "edit layer: picture: expected [1, 3, H, W] of at least {0}x{0} for {1} scales, found {2}", least,
            config().scales, shape_text(picture.sizes()));
    const auto x = (*module_->out)(module_->scale(0, picture.to(device(), dtype())));
    const auto colours =
        at::conv2d(x.narrow(1, 0, 3), detail::to_device(detail::colour_mixing().to(x.scalar_type()), x.device()));
    return {at::sigmoid(colours), at::sigmoid(x.narrow(1, 3, 1))};
  }
};

}  // namespace ip2p
