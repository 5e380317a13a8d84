#include "ip2p/core/out_of_memory.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>

#include "ip2p/core/error.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

template <class Body>
bool runs_out(Body&& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return is_out_of_memory(error);
  }
  return false;
}

}  // namespace

TEST_CASE("Memory that ran out is told from other errors", "[core]") {
  CHECK(runs_out([] { throw std::bad_alloc(); }));
  CHECK(runs_out([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory."); }));
#ifdef IP2P_HAS_DNNL
  CHECK(runs_out([] { throw dnnl::error(dnnl_out_of_memory, "could not create a primitive"); }));
  CHECK_FALSE(runs_out([] { throw dnnl::error(dnnl_unimplemented, "could not create a primitive"); }));
#endif
#ifndef __SANITIZE_ADDRESS__  // which ends the process instead
  // Pins the text of LibTorch's CPU allocator: if it changes, this fails.
  CHECK(runs_out([] { static_cast<void>(at::empty({std::int64_t{1} << 60}, at::kByte)); }));
#endif
  CHECK_FALSE(runs_out([] { TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory"); }));
  CHECK_FALSE(runs_out([] { throw std::runtime_error("DefaultCPUAllocator: can't allocate memory"); }));
  CHECK_FALSE(runs_out([] { throw_error("DefaultCPUAllocator: can't allocate memory"); }));
  CHECK_FALSE(runs_out([] { static_cast<void>(at::empty({2}).view({3})); }));
}
