#pragma once

/// \file
/// What happens to the memory of freed CPU tensors.

#include <c10/core/CPUAllocator.h>

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "ip2p/core/large_blocks.hpp"

namespace ip2p {

/// What becomes of freed memory.
enum class FreedMemory {
  kept,     ///< Reused for the next tensors. Faster: the system need not supply zeroed pages at every step.
  returned  ///< Given back to the system at once, which avoids fragmentation. Lowest peak memory.
};

/// Sets the policy for the whole process; call it before creating the first tensor. This is for programs to call; the
/// library itself never does. It tunes glibc's `malloc`, which LibTorch uses, and has no effect with other C libraries.
/// On Linux, `kept` also replaces LibTorch's CPU allocator by one that keeps the memory of tensors of 4 MiB and more,
/// which glibc would return in part, and asks for large pages for it.
inline void set_freed_memory(FreedMemory choice) {
  [[maybe_unused]] const bool kept = choice == FreedMemory::kept;
#ifdef __GLIBC__
  // 32 MiB is the most glibc accepts; larger blocks always come straight from the system.
  mallopt(M_MMAP_THRESHOLD, kept ? 32 << 20 : 1 << 20);
  mallopt(M_TRIM_THRESHOLD, kept ? 1 << 30 : 128 << 10);
#endif
#ifdef __linux__
  c10::SetCPUAllocator(kept ? static_cast<c10::Allocator*>(&detail::LargeBlocks::of_process())
                            : c10::GetDefaultCPUAllocator());
#endif
}

}  // namespace ip2p
