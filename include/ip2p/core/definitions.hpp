#pragma once

/// \file
/// How functions are declared whose bodies are many, so that the library can be headers alone or linked.
///
/// What a header `part.hpp` declares and does not show stands in `part_definitions.hpp`. The header includes it at its
/// end, unless the consumer links `ip2p::compiled`, which has compiled it once.

#ifdef IP2P_COMPILED
#define IP2P_INLINE
#else
/// `inline` where the library is used as headers alone.
#define IP2P_INLINE inline
#endif
