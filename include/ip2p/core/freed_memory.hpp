#pragma once

/// \file
/// What becomes of the memory of freed tensors of the CPU.

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace ip2p {

/// What the C library does with freed memory.
enum class FreedMemory {
  kept,     ///< For the next tensors: the system need not hand out cleared pages at each step.
  returned  ///< To the system at once, without holes that stay behind: the smallest peak.
};

/// Chooses for the whole process; call it before the first tensor. Programs call it, the library does not. It changes
/// glibc's `malloc`, which LibTorch uses, and nothing where there is another one.
inline void set_freed_memory([[maybe_unused]] FreedMemory choice) {
#ifdef __GLIBC__
  const bool kept = choice == FreedMemory::kept;
  // 32 MiB is the most that glibc accepts: larger blocks always come from the system.
  mallopt(M_MMAP_THRESHOLD, kept ? 32 << 20 : 1 << 20);
  mallopt(M_TRIM_THRESHOLD, kept ? 1 << 30 : 128 << 10);
#endif
}

}  // namespace ip2p
