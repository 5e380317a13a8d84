#pragma once

/// \file
/// Large pages for weights, which are read from end to end at every step.

#include <ATen/core/Tensor.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>

namespace ip2p::detail {

/// Asks the system to back the memory of a fresh CPU tensor by pages of 2 MiB where whole ones fit, before it is first
/// written to: one fault instead of 512, and fewer misses of the processor's table of pages. A request that the system
/// may ignore.
inline void ask_for_large_pages([[maybe_unused]] const at::Tensor& tensor) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::size_t page = std::size_t{2} << 20;
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided) return;
  auto* const begin = static_cast<std::byte*>(tensor.mutable_data_ptr());
  const auto lead = (page - reinterpret_cast<std::uintptr_t>(begin) % page) % page;
  if (tensor.nbytes() < lead + page) return;
  ::madvise(begin + lead, (tensor.nbytes() - lead) / page * page, MADV_HUGEPAGE);
#endif
}

}  // namespace ip2p::detail
