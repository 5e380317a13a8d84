#pragma once

/// \file
/// Version of the library. CMake reads it from here, so the two cannot disagree.

/// Changes with incompatible interfaces, from 1 on.
#define IP2P_VERSION_MAJOR 0
/// Changes with interfaces, incompatible ones while the major version is 0.
#define IP2P_VERSION_MINOR 1
/// Changes with corrections.
#define IP2P_VERSION_PATCH 0

namespace ip2p {

/// The version as "major.minor.patch"; a minor version may change interfaces while the major version is 0.
inline constexpr const char* version = "0.1.0";

}  // namespace ip2p
