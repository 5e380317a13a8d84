#pragma once

/// \file
/// Initial weights for training from scratch.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <cstdint>
#include <string_view>

#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/layers.hpp"

namespace ip2p {

/// Initialises every parameter of `module` the way PyTorch's layers do by default: weights and biases of linear layers
/// and convolutions from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), norms to 1 and 0. Embeddings are N(0, 0.02), as in CLIP.
/// The result depends only on the seed, not on the device: numbers are drawn on the CPU in fp32 and copied.
/// \param seed seed of the CPU generator
inline void initialise(Module& module, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  const detail::PlainForNow plain(module);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto uniform = [&](at::Tensor& t, std::int64_t fan_in) {
    if (!t.defined()) return;
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    t.copy_(at::empty(t.sizes(), at::kFloat).uniform_(-bound, bound, generator));
  };
  for (auto* layer : module.modules()) {
    if (auto* linear = dynamic_cast<Linear*>(layer)) {
      uniform(linear->weight, linear->weight.size(1));
      uniform(linear->bias, linear->weight.size(1));
    } else if (auto* conv = dynamic_cast<Conv2d*>(layer)) {
      const auto fan_in = conv->weight[0].numel();
      uniform(conv->weight, fan_in);
      uniform(conv->bias, fan_in);
    } else if (auto* group = dynamic_cast<GroupNorm*>(layer)) {
      group->weight.fill_(1);
      group->bias.zero_();
    } else if (auto* norm = dynamic_cast<LayerNorm*>(layer)) {
      norm->weight.fill_(1);
      norm->bias.zero_();
    } else if (auto* table = dynamic_cast<Embedding*>(layer)) {
      table->weight.copy_(at::empty(table->weight.sizes(), at::kFloat).normal_(0, 0.02, generator));
    }
  }
}

}  // namespace ip2p
