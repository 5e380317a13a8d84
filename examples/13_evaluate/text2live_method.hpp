#pragma once

/// \file
/// Text2LIVE as a method of the comparison. In a file of its own, because the training code takes long to compile.

#include <ATen/core/Tensor.h>

#include <stop_token>

#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/vision/clip.hpp"

namespace evaluate {

/// The photograph under a layer that is trained on it, from the caption to the edited caption.
/// \throws Cancelled when stopped
at::Tensor layer_over(const ip2p::PreparedEdit& edit, const ip2p::EditSettings& settings, const ip2p::Clip& clip,
                      const std::stop_token& stop);

}  // namespace evaluate
