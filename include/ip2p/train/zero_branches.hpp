#pragma once

/// \file
/// Initialises a UNet so that every residual branch adds zero.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_zero.h>

#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/transformer.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p {

/// Zeroes the last layer of every residual block and transformer and the output convolution, as the original diffusion
/// UNets do (`zero_module` in guided-diffusion and latent-diffusion; diffusers' constructor does not). Call it after
/// `initialise()` and before training from scratch.
inline void start_branches_at_zero(const UNet& unet) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> last;
  const auto clear = [&](const at::Tensor& weight, const at::Tensor& bias) { last.insert(last.end(), {weight, bias}); };
  for (const auto* module : unet.module().modules()) {
    if (const auto* block = dynamic_cast<const ResnetBlock*>(module)) clear(block->conv2->weight, block->conv2->bias);
    if (const auto* block = dynamic_cast<const SpatialTransformer*>(module))
      clear(block->proj_out->weight, block->proj_out->bias);
  }
  clear(unet.module().conv_out->weight, unet.module().conv_out->bias);
  at::_foreach_zero_(last);
}

}  // namespace ip2p
