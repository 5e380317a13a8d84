#pragma once

/// \file
/// The UNet's spatial transformer: self-attention, text cross-attention and a gated feed-forward layer.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/attention/concepts.hpp"
#include "ip2p/attention/keys_values.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/layers.hpp"

namespace ip2p {

namespace detail {

/// [B, N, heads*d] -> [B, heads, N, d], a view.
inline at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads}).transpose(1, 2);
}

/// [B, heads, N, d] -> [B, N, heads*d]; a view if the attention kernel already wrote its result in that order.
inline at::Tensor merge_heads(const at::Tensor& x) { return x.transpose(1, 2).flatten(2); }

/// Selects `rows` of the batch from tokens [B, N, C] or channels-last maps [B, C, h, w], keeping the memory format.
inline at::Tensor take_rows(const at::Tensor& x, const at::Tensor& rows) {
  if (x.dim() != 4) return x.index_select(0, rows);
  return x.permute({0, 2, 3, 1}).index_select(0, rows).permute({0, 3, 1, 2});
}

}  // namespace detail

/// Self-attention with one fused projection for queries, keys and values. The file's `to_q`, `to_k` and `to_v` are the
/// three row blocks of `to_qkv` (see nn/state.hpp).
struct SelfAttention : Module {
  /// \param channels C of the tokens, a multiple of `heads_`
  SelfAttention(std::int64_t channels, std::int64_t heads_) : heads(heads_) {
    to_qkv = register_module("to_qkv", std::make_shared<Linear>(channels, 3 * channels, false));
    to_out = register_group("to_out");
    to_out_0 = to_out->register_module("0", std::make_shared<Linear>(channels, channels));
  }

  /// \param x [B, N, C]  \return [B, N, C]
  at::Tensor operator()(const at::Tensor& x, const AttentionReference& attend, const AttentionSite& site) const {
    const auto qkv = (*to_qkv)(x).chunk(3, -1);
    return (*to_out_0)(
        detail::merge_heads(attend(site, detail::split_heads(qkv[0], heads), detail::split_heads(qkv[1], heads),
                                   detail::split_heads(qkv[2], heads))));
  }

  std::shared_ptr<Linear> to_qkv, to_out_0;  ///< Fused projections of the input, and the projection of the result.
  std::shared_ptr<Module> to_out;            ///< Holds `to_out_0` under the name that it has in files.
  std::int64_t heads;                        ///< Attention heads.
};

/// Cross-attention to the text; `to_k` and `to_v` are the two row blocks of `to_kv`.
struct CrossAttention : Module {
  /// \param channels C of the tokens, a multiple of `heads_`  \param context_channels width of the text
  CrossAttention(std::int64_t channels, std::int64_t context_channels, std::int64_t heads_) : heads(heads_) {
    to_q = register_module("to_q", std::make_shared<Linear>(channels, channels, false));
    to_kv = register_module("to_kv", std::make_shared<Linear>(context_channels, 2 * channels, false));
    to_out = register_group("to_out");
    to_out_0 = to_out->register_module("0", std::make_shared<Linear>(channels, channels));
  }

  /// Projects the text. \param context [B, tokens, context_channels]
  [[nodiscard]] KeysValues project(const at::Tensor& context) const {
    const auto kv = (*to_kv)(context).chunk(2, -1);
    return {detail::split_heads(kv[0], heads), detail::split_heads(kv[1], heads)};
  }

  /// \param x [B, N, C]  \return [B, N, C]
  at::Tensor operator()(const at::Tensor& x, const KeysValues& text, const AttentionReference& attend,
                        const AttentionSite& site) const {
    return (*to_out_0)(
        detail::merge_heads(attend(site, detail::split_heads((*to_q)(x), heads), text.keys, text.values)));
  }

  std::shared_ptr<Linear> to_q, to_kv, to_out_0;  ///< Projections of the tokens, of the text, and of the result.
  std::shared_ptr<Module> to_out;                 ///< Holds `to_out_0` under the name that it has in files.
  std::int64_t heads;                             ///< Attention heads.
};

/// Gated feed-forward layer (GEGLU, Shazeer 2020): (a * gelu(b)) W with [a, b] = x W' and the exact gelu.
struct FeedForward : Module {
  /// \param channels C of input and result; the hidden layer has four times as many
  explicit FeedForward(std::int64_t channels) {
    const auto hidden = 4 * channels;
    net = register_group("net");
    auto gate = net->register_group("0");
    proj = gate->register_module("proj", std::make_shared<Linear>(channels, 2 * hidden));
    out = net->register_module("2", std::make_shared<Linear>(hidden, channels));
  }

  /// \param x [..., C]  \param residual added to the result; of its shape, or undefined for nothing
  /// \return [..., C]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& residual = {}) const {
    if (at::GradMode::is_enabled()) return gated(x, residual);
    const auto rows = x.flatten(0, -2);
    const auto added = residual.defined() ? residual.flatten(0, -2) : residual;
    if (!x.is_cpu() || rows.size(0) <= rows_at_once()) return gated(rows, added).view_as(x);
    auto result = at::empty_like(rows);
    for (std::int64_t first = 0; first < rows.size(0); first += rows_at_once()) {
      const auto count = std::min(rows_at_once(), rows.size(0) - first);
      const auto part = added.defined() ? added.narrow(0, first, count) : added;
      result.narrow(0, first, count).copy_(gated(rows.narrow(0, first, count), part));
    }
    return result.view_as(x);
  }

  /// Computes the layer for all rows at once. \param rows [..., C]  \param residual as above  \return [..., C]
  [[nodiscard]] at::Tensor gated(const at::Tensor& rows, const at::Tensor& residual = {}) const {
    const auto hidden = proj->geglu(rows);
    return residual.defined() ? out->plus(hidden, residual) : (*out)(hidden);
  }

  /// How many rows to process at a time on a CPU. The hidden values are up to eight times as large as the input; for
  /// larger blocks the C library would request fresh memory from the system at every layer, and the system zeroes it
  /// first.
  [[nodiscard]] std::int64_t rows_at_once() const { return (24 << 20) / 4 / proj->weight_shape()[0]; }

  std::shared_ptr<Module> net;        ///< Holds `proj` and `out` under the names that they have in files.
  std::shared_ptr<Linear> proj, out;  ///< To gate and hidden values, and back.
};

/// One layer: x += self(norm1 x); x += cross(norm2 x, text); x += ff(norm3 x).
struct BasicTransformerBlock : Module {
  /// \param channels C of the tokens, a multiple of `heads`  \param context_channels width of the text
  BasicTransformerBlock(std::int64_t channels, std::int64_t context_channels, std::int64_t heads) {
    norm1 = register_module("norm1", std::make_shared<LayerNorm>(channels));
    attn1 = register_module("attn1", std::make_shared<SelfAttention>(channels, heads));
    norm2 = register_module("norm2", std::make_shared<LayerNorm>(channels));
    attn2 = register_module("attn2", std::make_shared<CrossAttention>(channels, context_channels, heads));
    norm3 = register_module("norm3", std::make_shared<LayerNorm>(channels));
    ff = register_module("ff", std::make_shared<FeedForward>(channels));
  }

  /// \param rows see `UNet`. If defined, x has fewer rows than the text, and row r of the result continues row rows[r]
  ///   of x
  at::Tensor operator()(const at::Tensor& x, const KeysValues& text, const AttentionReference& attend,
                        AttentionSite site, const at::Tensor& rows) const {
    site.cross = false;
    auto attended = (*attn1)((*norm1)(x), attend, site);
    SumAndNorm tokens;
    if (rows.defined()) {
      tokens.sum = detail::take_rows(x + attended, rows);
      tokens.normed = (*norm2)(tokens.sum);
    } else {
      tokens = norm2->of_sum(attended, x);
    }
    site.cross = true;
    attended = (*attn2)(tokens.normed, text, attend, site);
    tokens = norm3->of_sum(attended, tokens.sum);
    return (*ff)(tokens.normed, tokens.sum);
  }

  std::shared_ptr<LayerNorm> norm1, norm2, norm3;
  std::shared_ptr<SelfAttention> attn1;   ///< Self-attention.
  std::shared_ptr<CrossAttention> attn2;  ///< Cross-attention to the text.
  std::shared_ptr<FeedForward> ff;
};

/// Group norm, projection to tokens, transformer layers, projection back, residual (diffusers `Transformer2DModel`).
struct SpatialTransformer : Module {
  /// \param linear_projection whether proj_in and proj_out are stored as linear layers (SD2) or 1x1 convolutions (SD1);
  ///   the arithmetic is the same
  SpatialTransformer(std::int64_t channels, std::int64_t context_channels, std::int64_t heads, std::int64_t groups,
                     std::int64_t depth, bool linear_projection) {
    norm = register_module("norm", std::make_shared<GroupNorm>(groups, channels, 1e-6));
    proj_in = register_module("proj_in", std::make_shared<Linear>(channels, channels, true, !linear_projection));
    auto list = register_group("transformer_blocks");
    for (std::int64_t i = 0; i < depth; ++i) {
      blocks.push_back(list->register_module(
          std::to_string(i), std::make_shared<BasicTransformerBlock>(channels, context_channels, heads)));
    }
    proj_out = register_module("proj_out", std::make_shared<Linear>(channels, channels, true, !linear_projection));
  }

  /// \param x [B, C, h, w], channels-last, so that pixels can be used as tokens without a copy
  /// \param text first of this module's `blocks.size()` entries; advanced past them
  /// \param rows see `UNet`; reset to undefined once x has the same rows as the text
  at::Tensor operator()(at::Tensor x, const KeysValues*& text, const AttentionReference& attend, AttentionSite& site,
                        at::Tensor& rows) const {
    site.height = x.size(2);
    site.width = x.size(3);
    auto tokens = (*proj_in)((*norm)(x).permute({0, 2, 3, 1}).flatten(1, 2));
    for (const auto& block : blocks) {
      tokens = (*block)(tokens, *text++, attend, site, rows);
      ++site.layer;
      if (rows.defined()) {
        x = detail::take_rows(x, rows);
        rows.reset();
      }
    }
    const auto pixels = x.permute({0, 2, 3, 1}).flatten(1, 2);
    return proj_out->plus(tokens, pixels).unflatten(1, {x.size(2), x.size(3)}).permute({0, 3, 1, 2});
  }

  std::shared_ptr<GroupNorm> norm;
  std::shared_ptr<Linear> proj_in, proj_out;                   ///< From pixels to tokens and back.
  std::vector<std::shared_ptr<BasicTransformerBlock>> blocks;  ///< The transformer layers, in order.
};

}  // namespace ip2p
