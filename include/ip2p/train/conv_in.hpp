#pragma once

/// \file
/// Turns a text-to-image UNet into an editor by adding input channels.

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// Widens `conv_in.weight` to `channels` input channels: the old ones first, the new ones zero, so that the widened
/// UNet initially ignores the added channels. Keeps the bias, which diffusers' training script forgets.
/// \throws Error when `conv_in.weight` is missing, not 4-D, or already wider
inline Weights widen_conv_in(Weights weights, std::int64_t channels) {
  const auto found = weights.find("conv_in.weight");
  require(found != weights.end() && found->second.shape.size() == 4,
          "conv_in surgery: expected a tensor 'conv_in.weight' [out, in, k, k], found {}",
          found == weights.end() ? "none" : shape_text(found->second.shape));
  auto& entry = found->second;
  require(entry.shape[1] <= channels, "conv_in surgery: expected at most {} input channels, found {}", channels,
          entry.shape[1]);
  auto shape = entry.shape;
  shape[1] = channels - entry.shape[1];
  entry.read = [read = std::move(entry.read), shape] {
    const auto old = read();
    return at::cat({old, at::zeros(shape, old.options())}, 1);
  };
  entry.shape[1] = channels;
  return weights;
}

}  // namespace ip2p
