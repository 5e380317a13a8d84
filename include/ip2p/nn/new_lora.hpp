#pragma once

/// \file
/// Adds a new, untrained LoRA to a model.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/nn/apply_lora.hpp"

namespace ip2p {

/// Settings of `new_lora`.
struct NewLoraOptions {
  std::int64_t rank = 8;  ///< Of every changed layer, >= 1.
  double alpha = 8;       ///< The change is multiplied by alpha / rank.
  /// Ends of the names of the layers that are changed; by default every projection of the attention layers, as in
  /// diffusers' training scripts.
  std::vector<std::string> layers = {".to_q", ".to_k", ".to_v", ".to_out.0"};
  std::uint64_t seed = 0;  ///< Of the first values of `down`.
};

/// Adds a LoRA that does not change the model's results yet: `down` is normal with standard deviation 1 / rank and `up`
/// is zero (diffusers' "gaussian"). Its tensors are fp32 leaves that require gradients; the model's own weights no
/// longer do. \param model `UNet` or `ClipTextModel`, loaded with `LoadOptions::inference` false \throws Error for a
/// rank below 1, and if no layer's name has one of the suffixes
template <class Model>
AppliedLora new_lora(const Model& model, const NewLoraOptions& options = {}) {
  const at::NoGradGuard no_grad;
  require(options.rank >= 1, "new LoRA: rank: expected at least 1, found {}", options.rank);
  model.module().set_requires_grad(false);
  const auto scale = std::make_shared<double>(1.0);
  const auto fp32 = at::TensorOptions().dtype(at::kFloat).device(model.device());
  std::vector<AppliedLora::Adapter> adapters;
  for (const auto& [key, target] : detail::lora_targets(model.module(), Model::component)) {
    const auto ends_so = [&name = target.name](const std::string& end) { return name.ends_with(end); };
    if (!std::any_of(options.layers.begin(), options.layers.end(), ends_so)) continue;
    auto down = target.shape;
    down[0] = options.rank;
    std::vector<std::int64_t> up(target.shape.size(), 1);
    up[0] = target.shape[0];
    up[1] = options.rank;
    const CounterNoise noise(options.seed);
    const auto count = std::accumulate(down.begin(), down.end(), std::int64_t{1}, std::multiplies<>());
    const auto normal = noise.normal({1, count}, static_cast<std::int64_t>(adapters.size())).reshape(down);
    adapters.push_back({target.name, target.host,
                        std::make_shared<LoraPath>(LoraPath{
                            .down = (normal / static_cast<double>(options.rank)).to(fp32).set_requires_grad(true),
                            .up = at::zeros(up, fp32).set_requires_grad(true),
                            .first_row = target.first_row,
                            .strength = options.alpha / static_cast<double>(options.rank),
                            .scale = scale})});
  }
  require(!adapters.empty(), "new LoRA: expected layers of the {} whose names end with {}, found none",
          Model::component, fmt::join(options.layers, ", "));
  for (const auto& adapter : adapters) adapter.host.lock()->loras.push_back(adapter.path);
  note_model_change();
  return AppliedLora(scale, std::move(adapters), {});
}

}  // namespace ip2p
