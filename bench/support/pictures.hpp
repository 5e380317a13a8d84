#pragma once

// Pictures without a file.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ip2p/io/image_types.hpp"

namespace ip2p::bench {

/// A picture of every value, the same each time.
inline Image scattered(std::int64_t width, std::int64_t height) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<std::uint8_t>(i * 2654435761U >> 24);
  return image;
}

}  // namespace ip2p::bench
