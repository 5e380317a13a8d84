#pragma once

/// \file
/// The device's fused attention, for heads of any width and tokens of any strides.

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cmath>
#include <cstdint>

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/for_device.hpp"

namespace ip2p::detail {

/// The fused kernels of a GPU load 16 bytes at a time. Where the tokens' channels are no multiple of that, or begin
/// between two such places, LibTorch builds the whole map instead.
inline constexpr std::int64_t load_bytes = 16;

/// The least number of channels >= `width` that fills whole loads.
inline std::int64_t aligned_width(std::int64_t width, at::ScalarType dtype) {
  const auto channels = load_bytes / static_cast<std::int64_t>(c10::elementSize(dtype));
  return (width + channels - 1) / channels * channels;
}

/// Whether every token of x [B,heads,N,d] fills whole loads and begins at one.
inline bool is_aligned(const at::Tensor& x) {
  const auto channels = load_bytes / static_cast<std::int64_t>(x.element_size());
  bool aligned = x.size(-1) % channels == 0 && x.stride(-1) == 1 && x.storage_offset() % channels == 0;
  for (std::int64_t axis = 0; axis + 1 < x.dim(); ++axis) {
    aligned = aligned && (x.size(axis) == 1 || x.stride(axis) % channels == 0);
  }
  return aligned;
}

/// x itself, or a copy with zeros for the missing channels.
inline at::Tensor aligned(const at::Tensor& x) {
  if (is_aligned(x)) return x;
  const auto missing = aligned_width(x.size(-1), x.scalar_type()) - x.size(-1);
  return missing > 0 ? at::constant_pad_nd(x, {0, missing}) : x.clone(at::MemoryFormat::Contiguous);
}

/// `attention` with aligned copies of what is not aligned. Zero channels add nothing to a product of queries and keys,
/// and those of the values are cut off again.
inline at::Tensor aligned_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(-1)));
  const auto result = at::scaled_dot_product_attention(aligned(q), aligned(k), aligned(v), {}, 0.0, false, scale);
  return result.size(-1) == v.size(-1) ? result : result.narrow(-1, 0, v.size(-1));
}

/// softmax(Q K^T / sqrt(d)) V with a fused kernel, which never stores the map.
/// \param q [B,heads,N,d]  \param k [B,heads,M,d]  \param v [B,heads,M,c]  \return [B,heads,N,c]
inline at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return q.is_cuda() && !(is_aligned(q) && is_aligned(k) && is_aligned(v)) ? aligned_attention(q, k, v)
                                                                           : kernels_for(q).attention(q, k, v, false);
}

}  // namespace ip2p::detail
