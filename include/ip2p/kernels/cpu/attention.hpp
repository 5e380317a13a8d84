#pragma once

/// \file
/// Softmax attention on a CPU in fp32, without gradients: blocks of queries against blocks of keys, with the softmax
/// corrected from block to block, so that no map is stored (Dao et al., "FlashAttention", 2022).
///
/// Queries, keys and values are read where the projections left them, as views of [B,tokens,heads*d], and the result is
/// written as the next projection reads it. The bits of a query's result depend on that query, the keys and the values
/// alone, not on batch, threads or other queries.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::detail::cpu {

inline constexpr std::int64_t attention_queries = 192;  ///< Queries that share what is packed of keys; whole registers.
inline constexpr std::int64_t attention_keys = 128;     ///< Keys of a block.

/// Queries of one head against all of its keys. Rows, one a token, lie `..._row` numbers apart.
struct AttentionPart {
  const float* q;  ///< [queries, depth]
  const float* k;  ///< [keys, depth]
  const float* v;  ///< [keys, width]
  float* y;        ///< [queries, width]
  std::int64_t q_row, k_row, v_row, y_row;
  std::int64_t queries;       ///< At most `attention_queries`.
  std::int64_t keys;          ///< At least 1.
  std::int64_t depth, width;  ///< Multiples of 8, at least 16.
  float scale;                ///< What turns products of queries and keys into exponents to base 2.
  std::int64_t seen;          ///< Keys that the first query sees, and each after it one more; `keys` for all at once.
};

/// How many numbers of scratch memory a part takes at any level.
inline std::int64_t attention_scratch(std::int64_t depth, std::int64_t width) {
  return attention_queries * (depth + width + 2) + attention_keys * (48 + width);
}

/// Attends a part. \param scratch of `attention_scratch` numbers
using AttentionPass = void (*)(const AttentionPart& part, float* scratch);

/// The pass at `level`, which the processor must have.
AttentionPass attention_pass(CpuLevel level);

}  // namespace ip2p::detail::cpu

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// The function `attend`, compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/attention.inc"
#include "ip2p/kernels/cpu/each_level.inc"

namespace ip2p::detail::cpu {
IP2P_KERNEL_TABLE AttentionPass attention_pass(CpuLevel level) {  // NOLINT(misc-definitions-in-headers)
  return at_cpu_level<AttentionPass>(level, baseline::attention::attend, avx2::attention::attend,
                                     avx512::attention::attend);
}
}  // namespace ip2p::detail::cpu
#endif

namespace ip2p::detail::cpu {

/// Whether `blocked_attention` takes these arguments: their shapes, strides and dtypes.
inline bool fits_blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto plain = [](const at::Tensor& x) {
    return x.is_cpu() && x.layout() == at::kStrided && x.scalar_type() == at::kFloat && x.dim() == 4 && x.numel() > 0 &&
           x.stride(3) == 1 && x.size(3) >= 16 && x.size(3) % 8 == 0;
  };
  return plain(q) && plain(k) && plain(v) && k.sizes().slice(0, 2) == q.sizes().slice(0, 2) &&
         v.sizes().slice(0, 3) == k.sizes().slice(0, 3) && k.size(3) == q.size(3);
}

/// softmax(q k^T / sqrt(d)) v by the vector code of a level. Where it is causal, a key that a query must not see may
/// count up to 2^-126 of the one that counts most.
/// \param q [B,heads,N,d], k [B,heads,M,d], v [B,heads,M,c] that `fits_blocked_attention`
/// \param causal whether query i sees only keys 0 to i
/// \param level one that the processor has  \return [B,heads,N,c], a view of [B,N,heads*c]
inline at::Tensor blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal = false,
                                    CpuLevel level = cpu_level()) {
  const auto attend = attention_pass(level);
  const auto heads = q.size(1);
  const auto tokens = q.size(2);
  const auto width = v.size(3);
  auto result = at::empty({q.size(0), tokens, heads, width}, q.options());
  const AttentionPart all{.q = q.const_data_ptr<float>(),
                          .k = k.const_data_ptr<float>(),
                          .v = v.const_data_ptr<float>(),
                          .y = result.mutable_data_ptr<float>(),
                          .q_row = q.stride(2),
                          .k_row = k.stride(2),
                          .v_row = v.stride(2),
                          .y_row = heads * width,
                          .queries = tokens,
                          .keys = k.size(2),
                          .depth = q.size(3),
                          .width = width,
                          .scale = static_cast<float>(std::numbers::log2e / std::sqrt(q.size(3))),
                          .seen = k.size(2)};
  // Parts as equal as whole registers allow.
  const auto parts = (tokens + attention_queries - 1) / attention_queries;
  const auto part_queries = ((tokens + parts - 1) / parts + 15) / 16 * 16;
  in_threads(q.size(0) * heads * parts, 1, [&](std::int64_t from, std::int64_t to) {
    const auto scratch = at::empty({attention_scratch(all.depth, width)}, q.options());
    for (auto i = from; i < to; ++i) {
      const auto b = i / parts / heads;
      const auto h = i / parts % heads;
      const auto first = i % parts * part_queries;
      auto part = all;
      part.q += b * q.stride(0) + h * q.stride(1) + first * all.q_row;
      part.k += b * k.stride(0) + h * k.stride(1);
      part.v += b * v.stride(0) + h * v.stride(1);
      part.y += ((b * tokens + first) * heads + h) * width;
      part.queries = std::min(part_queries, tokens - first);
      if (causal) part.seen = first + 1;
      attend(part, scratch.mutable_data_ptr<float>());
    }
  });
  return result.transpose(1, 2);
}

/// Whether the vector code is faster than LibTorch's attention: compiled with optimisation, with fused multiply-add,
/// for queries that fill registers and heads whose blocks stay in the first cache.
inline bool blocked_attention_pays(const at::Tensor& q, const at::Tensor& v) {
  return vector_code_is_optimised && cpu_level() != CpuLevel::baseline && q.size(2) >= 16 && q.size(3) <= 256 &&
         v.size(3) <= 256;
}

/// `Kernels::attention`.
inline at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal) {
  if (!fits_blocked_attention(q, k, v) || !blocked_attention_pays(q, v) || records_graph(q, k, v) ||
      at::autocast::is_autocast_enabled(at::kCPU)) {
    return libtorch::attention(q, k, v, causal);
  }
  return blocked_attention(q, k, v, causal);
}

}  // namespace ip2p::detail::cpu
