#pragma once

/// \file
/// Projected text of one attention layer.

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Keys and values of one text cross-attention layer, each [B, heads, tokens, d]. They depend on the text alone, so a
/// run computes them once and every step reuses them.
struct KeysValues {
  at::Tensor keys, values;  ///< Each [B, heads, tokens, d].
};

}  // namespace ip2p
