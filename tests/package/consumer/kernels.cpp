// A program with the component `kernels`: they are registered without a word of it. Its own device code uses the
// library.
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <ip2p/kernels/table.hpp>

int cube_on_host(int x);

int main() {
  const auto* table = ip2p::registered_kernels(at::kCUDA);
  if (table == nullptr || !table->bias_apart) {
    std::puts("expected kernels of CUDA, found none");
    return 1;
  }
  // The system's C++ library, not the parts of another that LibTorch exports.
  std::error_code problem;
  std::filesystem::create_directories("kernels-folder/inner");
  if (std::filesystem::remove_all("kernels-folder", problem) != 2) {
    std::puts("expected two folders to be removed");
    return 1;
  }
  return cube_on_host(3) == 27 ? 0 : 1;
}
