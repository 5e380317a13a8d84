#pragma once

/// \file
/// Gradients averaged over processes.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/parallel/concepts.hpp"

namespace ip2p {

namespace detail {

/// Replaces the gradients that `parameters` hold by their mean over the processes. Small ones travel together, up to
/// 25 MB at a time. Every process must hold gradients of the same parameters, of one dtype and on one device.
template <Communicator Processes>
void average_gradients(const std::vector<at::Tensor>& parameters, const Processes& processes) {
  if (processes.size() == 1) return;
  constexpr std::int64_t largest = 25 * 1024 * 1024 / 4;  // elements of fp32
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients, flat;
  std::int64_t elements = 0;
  const auto send = [&] {
    if (gradients.empty()) return;
    const auto sum = at::cat(flat);
    processes.all_reduce(sum);
    sum.div_(processes.size());
    std::int64_t place = 0;
    for (auto& gradient : gradients) {
      gradient.copy_(sum.narrow(0, place, gradient.numel()).view(gradient.sizes()));
      place += gradient.numel();
    }
    gradients.clear();
    flat.clear();
    elements = 0;
  };
  for (const auto& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    gradients.push_back(parameter.grad());
    flat.push_back(parameter.grad().reshape({-1}));
    elements += parameter.numel();
    if (elements >= largest) send();
  }
  send();
}

}  // namespace detail

/// Runs a backward pass after which all processes hold the mean of their gradients. This form serves every
/// communicator and talks when the pass is over; that of `ProcessGroup` talks while it runs.
///
/// To add up gradients over several passes, call `Tensor::backward` for all but the last: nothing is sent then.
template <Communicator Processes>
class GradientReducer {
 public:
  /// \param parameters leaves that ask for gradients, the same on every process
  GradientReducer(std::vector<at::Tensor> parameters, Processes processes)
      : parameters_(std::move(parameters)), processes_(std::move(processes)) {}

  /// \param loss a scalar with its graph
  void backward(const at::Tensor& loss) {
    loss.backward();
    average();
  }

  /// Averages gradients that are there already, by whatever means they were computed.
  void average() { detail::average_gradients(parameters_, processes_); }

 private:
  std::vector<at::Tensor> parameters_;
  Processes processes_;
};

}  // namespace ip2p
