#pragma once

/// \file
/// File sizes as text.

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace ip2p::detail {

/// A number of bytes as text: "4.27 GB".
inline std::string byte_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes >= 1000000000 ? fmt::format("{:.2f} GB", value / 1e9)
         : bytes >= 1000000  ? fmt::format("{:.1f} MB", value / 1e6)
         : bytes >= 1000     ? fmt::format("{:.1f} kB", value / 1e3)
                             : fmt::format("{} bytes", bytes);
}

}  // namespace ip2p::detail
