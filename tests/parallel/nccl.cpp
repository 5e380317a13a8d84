// A program that trains over NCCL. It is built where there is a CUDA toolkit, to show that it compiles and links.
// Started by torchrun on a machine with several GPUs, it sums the ranks on them.
#include <ATen/ops/full.h>

#include <cstdio>

#include "ip2p/parallel/device_for.hpp"
#include "ip2p/parallel/launch.hpp"

int main() {
  const auto place = ip2p::place_in_environment();
  const auto processes = ip2p::launch(place);
  const auto device = ip2p::device_for("cuda", place);
  const auto ranks = at::full({1}, processes.rank(), at::dtype(at::kFloat).device(device));
  processes.all_reduce(ranks);
  const auto size = static_cast<double>(processes.size());
  const bool right = ranks.item<double>() == size * (size - 1) / 2;
  std::printf("rank %d of %d: %s\n", static_cast<int>(processes.rank()), static_cast<int>(processes.size()),
              right ? "the sum is right" : "the sum is wrong");
  return right ? 0 : 1;
}
