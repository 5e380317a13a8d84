#include "pictures.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/io/image.hpp"

namespace example {

/// In a row (axis 2) or a column (axis 1).
static ip2p::Image joined(std::span<const ip2p::Image> pictures, std::int64_t axis) {
  std::vector<at::Tensor> parts;
  for (const auto& picture : pictures) {
    auto pixels = ip2p::to_tensor(picture);
    if (!parts.empty()) {
      auto gap = pixels.sizes().vec();
      gap[static_cast<std::size_t>(axis)] = 8;
      parts.push_back(at::full(gap, 255, pixels.options()));
    }
    parts.push_back(std::move(pixels));
  }
  return ip2p::from_tensor(at::cat(parts, axis));
}

ip2p::Image side_by_side(std::span<const ip2p::Image> pictures) { return joined(pictures, 2); }

ip2p::Image stacked(std::span<const ip2p::Image> pictures) { return joined(pictures, 1); }

}  // namespace example
