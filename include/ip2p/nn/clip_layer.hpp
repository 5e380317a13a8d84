#pragma once

/// \file
/// The transformer layer used by both towers of CLIP.

#include <cstdint>
#include <memory>

#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/layers.hpp"

namespace ip2p::detail {

/// x += attention(norm1 x); x += mlp(norm2 x), with the tensor names of transformers' `CLIPEncoderLayer`.
struct ClipLayer : Module {
  /// \param quick_ use x sigmoid(1.702 x) instead of the exact gelu
  /// \param causal_ let tokens attend only to themselves and earlier tokens
  /// \param eps of the layer norms
  ClipLayer(std::int64_t width, std::int64_t intermediate, std::int64_t heads_, bool quick_, bool causal_,
            double eps = 1e-5)
      : heads(heads_), quick(quick_), causal(causal_) {
    auto attention = register_group("self_attn");
    qkv_proj = attention->register_module("qkv_proj", std::make_shared<Linear>(width, 3 * width));
    out_proj = attention->register_module("out_proj", std::make_shared<Linear>(width, width));
    layer_norm1 = register_module("layer_norm1", std::make_shared<LayerNorm>(width, eps));
    auto mlp = register_group("mlp");
    fc1 = mlp->register_module("fc1", std::make_shared<Linear>(width, intermediate));
    fc2 = mlp->register_module("fc2", std::make_shared<Linear>(intermediate, width));
    layer_norm2 = register_module("layer_norm2", std::make_shared<LayerNorm>(width, eps));
  }

  /// \param x [B, T, C]  \return [B, T, C]
  at::Tensor operator()(const at::Tensor& x) const {
    const auto qkv = queries_keys_values(x);
    return after_attention(x, kernels_for(x).attention(qkv[0], qkv[1], qkv[2], causal));
  }

  /// Queries, keys and values of the normalised input. \return [3, B, heads, T, d], a view
  [[nodiscard]] at::Tensor queries_keys_values(const at::Tensor& x) const {
    return (*qkv_proj)((*layer_norm1)(x)).unflatten(-1, {3, heads, x.size(2) / heads}).permute({2, 0, 3, 1, 4});
  }

  /// The rest of the layer. \param x the layer's input  \param mixed the result of attention, [B, heads, T, d]
  [[nodiscard]] at::Tensor after_attention(const at::Tensor& x, const at::Tensor& mixed) const {
    const auto y = out_proj->plus(mixed.transpose(1, 2).flatten(2), x);
    const auto activation = quick ? Activation::quick_gelu : Activation::gelu;
    return fc2->plus(fc1->activated((*layer_norm2)(y), activation), y);
  }

  std::shared_ptr<Linear> qkv_proj, out_proj, fc1, fc2;
  std::shared_ptr<LayerNorm> layer_norm1, layer_norm2;
  std::int64_t heads;
  bool quick, causal;
};

}  // namespace ip2p::detail
