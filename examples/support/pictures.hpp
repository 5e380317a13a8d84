#pragma once

/// \file
/// Several pictures as one.

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <cstddef>
#include <span>
#include <vector>

#include "ip2p/io/image.hpp"

namespace example {

/// Pictures of one height, side by side with white gaps of 8 pixels.
inline ip2p::Image side_by_side(std::span<const ip2p::Image> pictures) {
  std::vector<at::Tensor> parts;
  for (const auto& picture : pictures) {
    auto pixels = ip2p::to_tensor(picture);
    if (!parts.empty()) parts.push_back(at::full({3, pixels.size(1), 8}, 255, pixels.options()));
    parts.push_back(std::move(pixels));
  }
  return ip2p::from_tensor(at::cat(parts, 2));
}

}  // namespace example
