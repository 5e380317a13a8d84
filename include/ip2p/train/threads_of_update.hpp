#pragma once

/// \file
/// Computes one update's gradients in several threads, each with its own part of the batch.

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "ip2p/core/autograd.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/parameters.hpp"

namespace ip2p::detail {

/// Adds the mean gradient of `count` parts to the parameters' gradients, as a backward pass does, and returns the mean
/// loss, a scalar without a graph. Threads share the weights and synchronise once, at the end; parts are summed in
/// order, so the result does not depend on timing. Rethrows what a part threw; gradients are then unspecified.
///
/// \param loss_of called with 0 ... count - 1, each in a separate thread
/// \param scaled turns a part's loss into the value from which its backward pass starts
inline at::Tensor loss_by_threads(const Parameters& parameters, std::size_t count,
                                  const std::function<at::Tensor(std::size_t)>& loss_of,
                                  const std::function<at::Tensor(const at::Tensor&)>& scaled) {
  std::vector<at::Tensor> losses(count);
  std::vector<std::vector<at::Tensor>> gradients(count);
  std::vector<std::exception_ptr> failures(count);
  const auto work = [&](std::size_t part) {
    try {
      const auto loss = loss_of(part);
      gradients[part] = detail::gradients_of(scaled(loss), parameters.tensors);
      losses[part] = loss.detach();
    } catch (...) {
      failures[part] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t part = 1; part < count; ++part) {
      threads.emplace_back([&, part] {
        at::set_num_threads(1);
        work(part);
      });
    }
    work(0);
  }
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }

  const at::NoGradGuard no_grad;
  const double share = 1.0 / static_cast<double>(count);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    at::Tensor sum;
    for (auto& parts : gradients) {
      if (!parts[i].defined()) continue;
      sum = sum.defined() ? sum.add_(parts[i]) : parts[i];
    }
    if (!sum.defined()) continue;
    sum.mul_(share);
    auto& gradient = parameters.tensors[i].mutable_grad();
    gradient = gradient.defined() ? gradient.add_(sum) : sum;
  }
  auto total = losses[0].clone();
  for (std::size_t part = 1; part < count; ++part) total.add_(losses[part]);
  return total.mul_(share);
}

}  // namespace ip2p::detail
