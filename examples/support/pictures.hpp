#pragma once

/// \file
/// Combines several pictures into one, with white gaps of 8 pixels.

#include <span>

#include "ip2p/io/image_types.hpp"

namespace example {

/// Pictures of one height, side by side.
ip2p::Image side_by_side(std::span<const ip2p::Image> pictures);

/// Pictures of one width, one below the other.
ip2p::Image stacked(std::span<const ip2p::Image> pictures);

}  // namespace example
