#pragma once

/// \file
/// Gradient checkpointing of the UNet.

#include "ip2p/nn/checkpointed.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p {

/// While gradients are computed, keeps only the inputs of each residual block and transformer and evaluates them again
/// in the backward pass: a third more work for a fraction of the memory; the same gradients. Holds for all copies of
/// the handle.
inline void checkpoint_gradients(const UNet& unet, bool on = true) {
  unet.module().evaluate_segment = on ? &checkpointed : nullptr;
}

}  // namespace ip2p
