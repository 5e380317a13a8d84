#pragma once

/// \file
/// Gradients averaged over processes.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/cat.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/parallel/concepts.hpp"

namespace ip2p {

namespace detail {

/// `tensors` in the same order, in parts of about 25 MB, so that small ones are sent together.
inline std::vector<std::vector<at::Tensor>> in_parts(const std::vector<at::Tensor>& tensors) {
  constexpr std::size_t largest = 25 * 1024 * 1024;
  std::vector<std::vector<at::Tensor>> parts;
  std::size_t bytes = largest;
  for (const auto& tensor : tensors) {
    if (bytes >= largest) {
      parts.emplace_back();
      bytes = 0;
    }
    parts.back().push_back(tensor);
    bytes += tensor.nbytes();
  }
  return parts;
}

/// All elements of `tensors` in one flat tensor.
inline at::Tensor flatten_all(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> rows;
  for (const auto& tensor : tensors) rows.push_back(tensor.detach().reshape({-1}));
  return at::cat(rows);
}

/// Copies the elements of such a flat tensor back into `tensors`.
inline void unflatten_into(const std::vector<at::Tensor>& tensors, const at::Tensor& row) {
  std::vector<at::Tensor> own, parts;
  std::int64_t place = 0;
  for (const auto& tensor : tensors) {
    own.push_back(tensor.detach());
    parts.push_back(row.narrow(0, place, tensor.numel()).view(tensor.sizes()));
    place += tensor.numel();
  }
  if (!own.empty()) at::_foreach_copy_(own, parts);
}

/// Replaces the gradients of `parameters` by their mean over the processes. Every process must hold gradients for the
/// same parameters, all of one dtype and on one device.
template <Communicator Processes>
void average_gradients(const std::vector<at::Tensor>& parameters, const Processes& processes) {
  if (processes.size() == 1) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  for (const auto& part : in_parts(gradients)) {
    const auto sum = flatten_all(part);
    processes.all_reduce(sum);
    unflatten_into(part, sum.div_(processes.size()));
  }
}

}  // namespace detail

/// Runs a backward pass after which all processes hold the mean of their gradients. This version works with any
/// communicator and communicates after the pass; the specialisation for `ProcessGroup` overlaps the two.
///
/// To accumulate gradients over several passes, call `Tensor::backward` for all but the last: it sends nothing.
template <Communicator Processes>
class GradientReducer {
 public:
  /// \param parameters leaf tensors that require gradients, the same on every process
  GradientReducer(std::vector<at::Tensor> parameters, Processes processes)
      : parameters_(std::move(parameters)), processes_(std::move(processes)) {}

  /// \param loss a scalar with its graph
  void backward(const at::Tensor& loss) {
    loss.backward();
    average();
  }

  /// Averages existing gradients, however they were computed.
  void average() { detail::average_gradients(parameters_, processes_); }

 private:
  std::vector<at::Tensor> parameters_;
  Processes processes_;
};

}  // namespace ip2p
