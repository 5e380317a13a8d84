// A program that edits a tensor by recorded graphs: built where the CUDA runtime's headers are, to show that it
// compiles and links. On a machine with a GPU it checks the laws there.
#include <ATen/Context.h>

#include <cstdio>

#include "ip2p/execution/cuda_graph.hpp"
#include "ip2p/testing/check_execution.hpp"

int main() {
  const ip2p::Graphed<ip2p::CudaGraph> graphed;
  if (!at::hasCUDA()) {
    ip2p::testing::check_execution(graphed);
    std::printf("not recorded, because %s\n", graphed.reason().c_str());
    return graphed.counts().recorded == 0 ? 77 : 1;
  }
  ip2p::testing::check_execution(graphed, {at::kCUDA, 0});
  const auto counts = graphed.counts();
  std::printf("%d recorded, %d replayed\n", static_cast<int>(counts.recorded), static_cast<int>(counts.replayed));
  return counts.recorded > 0 && counts.replayed > 10 ? 0 : 1;
}
