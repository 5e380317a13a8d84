// NCCL with one process: that the library loads, makes a group on the GPU, and sums.

#include <ATen/ops/full.h>

#ifdef IP2P_HAS_NCCL
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <chrono>

#include "ip2p/parallel/nccl.hpp"
#include "ip2p/parallel/process_group.hpp"
#endif

#include "device/check.hpp"

namespace ip2p::device_check {

namespace {

void nccl(const Settings& settings, Report& report) {
#ifdef IP2P_HAS_NCCL
  if (settings.device.is_cuda()) {
    const auto timeout = std::chrono::milliseconds(std::chrono::seconds(30));
    const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store, 0, 1);
    detail::use_nccl(*group, store, {}, timeout);
    const ProcessGroup processes(group, store, 0, timeout);
    const auto values = at::full({1024}, 3.0, at::TensorOptions().device(settings.device));
    processes.all_reduce(values);
    processes.broadcast(values, 0);
    const double sum = values.sum().item<double>();
    report.expect("the sum over one process", sum == 3.0 * 1024, std::to_string(sum));
    return;
  }
  report.skip("one process", "NCCL is for GPUs");
#else
  report.skip("one process", "this program was built without NCCL");
#endif
}

}  // namespace

std::vector<Part> nccl_steps() { return {{"nccl", false, nccl}}; }

}  // namespace ip2p::device_check
