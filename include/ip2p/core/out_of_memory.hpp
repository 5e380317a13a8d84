#pragma once

/// \file
/// Recognises that an allocation failed, whichever allocator it was.

#include <c10/util/Exception.h>
#if __has_include(<oneapi/dnnl/dnnl_common.hpp>)
#include <oneapi/dnnl/dnnl_common.hpp>
#define IP2P_HAS_DNNL 1
#endif

#include <exception>
#include <new>
#include <string_view>

namespace ip2p {

namespace detail {

/// Whether LibTorch's CPU allocator threw `error` because it got no memory.
///
/// This allocator is the only one without an exception type of its own: c10/core/impl/alloc_cpu.cpp throws a plain
/// `c10::Error`, which can be told apart only by its text. (Devices throw `c10::OutOfMemoryError`.) The alternative,
/// replacing the process's CPU allocator, is not for a library to do. The text begins with the source file that threw
/// and names the allocator, so an error that merely mentions memory is not mistaken for one.
inline bool cpu_allocation_failed(const c10::Error& error) {
  const std::string_view text = error.msg();
  return text.starts_with("[enforce fail at alloc_cpu.cpp:") &&
         text.find("DefaultCPUAllocator: ") != std::string_view::npos;
}

/// Whether oneDNN, which computes for LibTorch on CPUs, threw `error` because it got no memory.
inline bool dnnl_got_no_memory(const std::exception& error) {
#ifdef IP2P_HAS_DNNL
  const auto* failure = dynamic_cast<const dnnl::error*>(&error);
  return failure != nullptr && failure->status == dnnl_out_of_memory;
#else
  static_cast<void>(error);
  return false;
#endif
}

}  // namespace detail

/// Whether `error` says that memory ran out, of the machine or of a device: `std::bad_alloc`, `c10::OutOfMemoryError`,
/// or what LibTorch's CPU allocator and oneDNN throw.
inline bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr || detail::dnnl_got_no_memory(error)) return true;
  const auto* failure = dynamic_cast<const c10::Error*>(&error);
  return failure != nullptr &&
         (dynamic_cast<const c10::OutOfMemoryError*>(failure) != nullptr || detail::cpu_allocation_failed(*failure));
}

}  // namespace ip2p
