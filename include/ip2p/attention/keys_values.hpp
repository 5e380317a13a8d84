#pragma once

/// \file
/// The text's keys and values for one attention layer.

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Keys and values of one text cross-attention layer, each [B, heads, tokens, d]. They depend only on the text, so a
/// run computes them once and reuses them at every step.
struct KeysValues {
  at::Tensor keys, values;  ///< Each [B, heads, tokens, d].
};

}  // namespace ip2p
