#pragma once

#include <ATen/ops/full.h>

#include <cstdint>

#include "ip2p/core/random.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/unet/config.hpp"

namespace ip2p::testing {

/// A UNet with text cross-attention that trains in milliseconds.
inline UNetConfig tiny_editor_config(std::int64_t in_channels = 8) {
  UNetConfig config;
  config.in_channels = in_channels;
  config.block_out_channels = {8, 16};
  config.cross_attention = {false, true};
  config.layers_per_block = 1;
  config.cross_attention_dim = 6;
  config.heads = {1, 2};
  config.transformer_layers = {1, 1};
  config.norm_num_groups = 4;
  return config;
}

/// Pairs whose latents depend only on their number.
template <std::int64_t count>
struct NumberedPairs {
  std::int64_t size() const { return count; }
  EditPair get(std::int64_t i, SampleRandom& random) {
    const auto noise = CounterNoise(99, static_cast<std::uint32_t>(i)).normal({1, 4, 8, 8}, 0)[0];
    return {noise, at::full({4, 8, 8}, -2.0), noise * 0.5, random.uniform() < 0.5 ? "make it red" : "make it blue"};
  }
};

}  // namespace ip2p::testing
