#pragma once

/// \file
/// Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018), over AlexNet or VGG-16.

#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/state.hpp"

namespace ip2p {

/// The network whose features are compared.
/// `alexnet` is what the authors advise for measuring, `vgg16` what they advise for losses.
enum class LpipsNetwork { alexnet, vgg16 };

namespace detail {

struct LpipsModule : Module {
  struct Step {
    std::shared_ptr<Conv2d> conv;  ///< Null: a pooling layer.
    bool compared = false;         ///< Whether the features after it are compared.
  };

  explicit LpipsModule(LpipsNetwork network) : vgg(network == LpipsNetwork::vgg16) {
    const auto per_channel = [&](const char* name, std::array<float, 3> values) {
      return register_buffer(name, at::tensor(at::ArrayRef<float>(values), at::kFloat).view({3, 1, 1}));
    };
    shift = per_channel("shift", {-0.030F, -0.088F, -0.188F});
    scale = per_channel("scale", {0.458F, 0.448F, 0.450F});
    auto net = register_group("net");
    std::int64_t place = 0;  // index in torchvision's list of layers, which names the weights
    std::int64_t channels = 3;
    std::shared_ptr<Module> slice;
    const auto open = [&](int number) { slice = net->register_group("slice" + std::to_string(number)); };
    const auto conv = [&](std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
      steps.push_back({slice->register_module(std::to_string(place),
                                              std::make_shared<Conv2d>(channels, out, kernel, stride, padding))});
      channels = out;
      place += 2;  // skips the activation
    };
    const auto pool = [&] {
      steps.push_back({});
      ++place;
    };
    const auto close = [&] {
      steps.back().compared = true;
      widths.push_back(channels);
    };
    if (vgg) {
      const std::array<std::pair<std::int64_t, int>, 5> levels{{{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}};
      for (std::size_t level = 0; level < levels.size(); ++level) {
        open(static_cast<int>(level) + 1);
        if (level > 0) pool();
        for (int i = 0; i < levels[level].second; ++i) conv(levels[level].first, 3, 1, 1);
        close();
      }
    } else {
      open(1);
      conv(64, 11, 4, 2);
      close();
      open(2);
      pool();
      conv(192, 5, 1, 2);
      close();
      open(3);
      pool();
      conv(384, 3, 1, 1);
      close();
      for (const int number : {4, 5}) {
        open(number);
        conv(256, 3, 1, 1);
        close();
      }
    }
    for (std::size_t i = 0; i < widths.size(); ++i) {
      auto lin = register_group("lin" + std::to_string(i));
      auto model = lin->register_group("model");
      weights.push_back(model->register_module("1", std::make_shared<Conv2d>(widths[i], 1, 1, 1, 0, false)));
    }
  }

  /// \param images [B, 3, H, W], scaled  \return the compared features
  [[nodiscard]] std::vector<at::Tensor> features(at::Tensor x) const {
    std::vector<at::Tensor> found;
    for (const auto& step : steps) {
      x = step.conv ? at::relu((*step.conv)(x)) : at::max_pool2d(x, {vgg ? 2 : 3, vgg ? 2 : 3}, {2, 2});
      if (step.compared) found.push_back(x);
    }
    return found;
  }

  bool vgg;
  at::Tensor shift, scale;  ///< Of the pictures' channels, [3, 1, 1].
  std::vector<Step> steps;
  std::vector<std::int64_t> widths;
  std::vector<std::shared_ptr<Conv2d>> weights;  ///< One per level, [1, channels, 1, 1].
};

}  // namespace detail

/// Perceptual distance of pictures; 0 for equal ones.
///
/// Weights are read from a safetensors file, or a pickle, with the lpips package's names: save
/// `lpips.LPIPS(net="alex").state_dict()`.
class Lpips : public ModelHandle<detail::LpipsModule> {
 public:
  /// Weights are uninitialised: load them.
  explicit Lpips(LpipsNetwork network = LpipsNetwork::alexnet)
      : ModelHandle(std::make_shared<detail::LpipsModule>(network)) {}

  /// \throws Error as `open_weight_file` and `load_weights` do
  static Lpips open(const std::filesystem::path& file, LpipsNetwork network = LpipsNetwork::alexnet) {
    Lpips lpips(network);
    auto weights = open_weight_file(file).weights;
    // The package also stores its list of linear layers (duplicates) and its constants.
    std::erase_if(weights, [](const auto& item) {
      return item.first.starts_with("lins.") || item.first.starts_with("scaling_layer.");
    });
    load_weights(lpips.module(), weights, file.string() + " (lpips)");
    lpips.freeze();
    return lpips;
  }

  /// \param a, b [B, 3, H, W] in [-1, 1]  \return [B]  \throws Error for different shapes and below 35x35 pixels
  ///   (AlexNet) or 16x16 (VGG), where no features are left
  [[nodiscard]] at::Tensor operator()(const at::Tensor& a, const at::Tensor& b) const {
    const std::int64_t least = module_->vgg ? 16 : 35;
    require(a.dim() == 4 && a.size(1) == 3 && a.sizes() == b.sizes() && a.size(2) >= least && a.size(3) >= least,
            "lpips: expected two of one shape [B, 3, H, W] of at least {0}x{0} pixels, found {1} and {2}", least,
            shape_text(a.sizes()), shape_text(b.sizes()));
    const auto first = module_->features(scaled(a)), second = module_->features(scaled(b));
    at::Tensor total;
    for (std::size_t i = 0; i < first.size(); ++i) {
      const auto difference = (unit(first[i]) - unit(second[i])).pow(2);
      const auto level = (*module_->weights[i])(difference).mean({1, 2, 3});
      total = total.defined() ? total + level : level;
    }
    return total;
  }

 private:
  [[nodiscard]] at::Tensor scaled(const at::Tensor& images) const {
    return (images.to(device(), dtype()) - module_->shift) / module_->scale;
  }

  static at::Tensor unit(const at::Tensor& features) {
    return features / (features.pow(2).sum(1, true).sqrt() + 1e-10);
  }
};

}  // namespace ip2p
