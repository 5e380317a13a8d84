// A program with the component `kernels`: they are registered without a word of it. Its own device code uses the
// library.
#include <cstdio>

#include <ip2p/kernels/table.hpp>

int cube_on_host(int x);

int main() {
  const auto* table = ip2p::registered_kernels(at::kCUDA);
  if (table == nullptr || !table->bias_apart) {
    std::puts("expected kernels of CUDA, found none");
    return 1;
  }
  return cube_on_host(3) == 27 ? 0 : 1;
}
