// Tells the thread sanitizer where OpenMP's threads begin and end their parts of a loop. LibTorch's libgomp is not
// compiled with it, so it would see threads that share memory without waiting for each other. Linked into all programs
// of a build with that sanitizer, before libgomp.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

using Body = void(void*);
using Parallel = void(Body*, void*, unsigned, unsigned);

/// A parallel region: a function that every thread calls.
struct Region {
  Body* body;
  void* data;
  char begin = 0, end = 0;  ///< Stand for the two moments.
};

void part(void* data) {
  auto& region = *static_cast<Region*>(data);
  __tsan_acquire(&region.begin);
  region.body(region.data);
  __tsan_release(&region.end);
}

}  // namespace

extern "C" void GOMP_parallel(Body* body, void* data, unsigned threads, unsigned flags) {
  static auto* const real = reinterpret_cast<Parallel*>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  Region region{body, data};
  __tsan_release(&region.begin);
  real(part, &region, threads, flags);
  __tsan_acquire(&region.end);
}
