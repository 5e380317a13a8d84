#pragma once

/// \file
/// What happens to the memory of freed CPU tensors.

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace ip2p {

/// What the C library does with freed memory.
enum class FreedMemory {
  kept,     ///< Reused for the next tensors. Faster: the system need not supply zeroed pages at every step.
  returned  ///< Given back to the system at once, which avoids fragmentation. Lowest peak memory.
};

/// Sets the policy for the whole process; call it before creating the first tensor. This is for programs to call; the
/// library itself never does. It tunes glibc's `malloc`, which LibTorch uses, and has no effect with other C libraries.
inline void set_freed_memory([[maybe_unused]] FreedMemory choice) {
#ifdef __GLIBC__
  const bool kept = choice == FreedMemory::kept;
  // 32 MiB is the most glibc accepts; larger blocks always come straight from the system.
  mallopt(M_MMAP_THRESHOLD, kept ? 32 << 20 : 1 << 20);
  mallopt(M_TRIM_THRESHOLD, kept ? 1 << 30 : 128 << 10);
#endif
}

}  // namespace ip2p
