#pragma once

/// \file
/// Large pages for weights, which are read from end to end at every step.

#include <ATen/core/Tensor.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>

namespace ip2p::detail {

/// Asks the system to back the memory of a fresh CPU tensor by pages of 2 MiB where whole ones fit, before it is first
/// written to: one fault instead of 512, and fewer misses of the processor's table of pages. A request that the system
/// may ignore.
inline void ask_for_large_pages([[maybe_unused]] const at::Tensor& tensor) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = std::uintptr_t{2} << 20;
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided || tensor.nbytes() < page) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  const auto first = (begin + page - 1) / page * page;
  const auto last = (begin + tensor.nbytes()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace ip2p::detail
