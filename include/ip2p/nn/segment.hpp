#pragma once

/// \file
/// A part of a network that is a function of tensors, as gradient checkpointing evaluates it.

#include <ATen/core/Tensor.h>

#include <functional>
#include <initializer_list>
#include <vector>

#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// Part of a network as a function of tensors. It may be called twice, the second time while gradients are computed, so
/// it must own what it needs.
using Segment = std::function<at::Tensor(at::TensorList)>;

/// How a network evaluates a segment; `checkpointed` (nn/checkpointed.hpp) is one. The second list are the weights that
/// the segment uses besides its inputs. Networks hold a pointer, so that only those who checkpoint compile it.
using SegmentEvaluation = at::Tensor (*)(Segment, at::TensorList, at::TensorList);

namespace detail {

/// Weights of modules, and of the side paths that `apply_lora` hung on their layers.
inline std::vector<at::Tensor> segment_weights(std::initializer_list<const Module*> modules) {
  std::vector<at::Tensor> weights;
  for (const auto* module : modules) {
    if (module == nullptr) continue;
    const auto own = module->parameters();
    weights.insert(weights.end(), own.begin(), own.end());
    for (const auto* layer : module->modules()) {
      const auto* host = dynamic_cast<const LoraHost*>(layer);
      if (host == nullptr) continue;
      for (const auto& lora : host->loras) weights.insert(weights.end(), {lora->down, lora->up});
    }
  }
  return weights;
}

}  // namespace detail

}  // namespace ip2p
