#pragma once

/// \file
/// Macros for functions with long bodies, so that the library can be used header-only or linked.
///
/// Functions that a header `part.hpp` only declares are defined in `part_definitions.hpp`. The header includes that
/// file at its end, unless the consumer links `ip2p::compiled`, which contains them.

#ifdef IP2P_COMPILED
#define IP2P_INLINE
#else
/// `inline` if the library is used header-only.
#define IP2P_INLINE inline
#endif
