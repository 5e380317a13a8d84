#pragma once

/// \file
/// Layers whose weights may be held in 8 bits alone.

#include <ATen/core/Tensor.h>

#include <memory>

#include "ip2p/core/error.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

namespace detail {

/// Weights of a layer: whole numbers times one scale for each output channel.
struct Int8Weight {
  at::Tensor values;  ///< int8; in the order of `cpu::int8_columns` or of `cpu::winograd_weight`.
  at::Tensor scale;   ///< [out], fp32.
  at::Tensor sums;    ///< [out], fp32: those of the values of each output channel; undefined for convolutions.
};

}  // namespace detail

/// A layer whose weight may be in 8 bits.
struct Int8Host {
  virtual ~Int8Host() = default;

  /// The weight, set by `use_int8` (nn/int8.hpp). The parameter then has its shape, and NaN in every place.
  std::shared_ptr<const detail::Int8Weight> int8;
};

namespace detail {

/// \throws Error if weights of the module are in 8 bits alone
inline void require_plain_weights(const Module& module) {
  for (const auto& [name, layer] : module.named_modules()) {
    const auto* host = dynamic_cast<const Int8Host*>(layer);
    require(
        host == nullptr || !host->int8,
        "int8: '{}': expected weights in full, to train, save, replace, move or convert them, found weights rounded "
        "to 8 bits; load the model again without int8",
        name);
  }
}

}  // namespace detail

}  // namespace ip2p
