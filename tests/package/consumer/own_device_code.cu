// Device code of the consumer's own beside headers of the library, which need C++20.
#include <ip2p/core/branch.hpp>
#include <ip2p/core/error.hpp>
#include <ip2p/kernels/cuda/phases.cuh>

static_assert(ip2p::Branch{} == ip2p::Branch{.text = true, .image = true});

namespace {

IP2P_HOST_DEVICE constexpr int cube(int x) { return x * x * x; }

struct Cubes {
  static constexpr int threads = 32;
  static constexpr int first = 0, last = 0;
  struct Registers {};
  int* to;

  template <int>
  IP2P_HOST_DEVICE void run(const ip2p::kernels::Place& place, Registers& /*none*/,
                            const ip2p::kernels::SharedMemory& /*none*/) const {
    to[place.thread] = cube(place.thread);
  }
};

}  // namespace

int cube_on_host(int x) {
  ip2p::require(x < 1000, "x: expected less than 1000, found {}", x);
  return cube(x);
}

int cube_on_device(int* to, cudaStream_t stream) { return ip2p::kernels::LaunchOn{stream}(Cubes{to}, {.x = 1}); }
