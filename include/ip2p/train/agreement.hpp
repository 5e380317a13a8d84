#pragma once

/// \file
/// Checks that the processes of a training run agree before they change anything.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/parallel/concepts.hpp"
#include "ip2p/train/parameters.hpp"

namespace ip2p::detail {

/// Gathers one number per process, in rank order.
template <class Number, Communicator Processes>
std::vector<Number> from_all(Number mine, const Processes& processes) {
  if (processes.size() == 1) return {mine};
  const at::NoGradGuard no_grad;
  const auto numbers = at::zeros({processes.size()}, c10::CppTypeToScalarType<Number>::value);
  auto* data = numbers.template data_ptr<Number>();
  data[processes.rank()] = mine;
  processes.all_reduce(numbers);
  return {data, data + processes.size()};
}

/// Whether the flag is set on any process.
template <Communicator Processes>
bool any_of_all(bool mine, const Processes& processes) {
  for (const double other : from_all(mine ? 1.0 : 0.0, processes)) {
    if (other != 0.0) return true;
  }
  return false;
}

/// Broadcasts the numbers of rank 0; every process passes the same count.
template <Communicator Processes>
std::vector<double> of_first(std::vector<double> numbers, const Processes& processes) {
  if (processes.size() == 1) return numbers;
  const auto count = static_cast<std::int64_t>(numbers.size());
  const auto row = at::from_blob(numbers.data(), {count}, at::kDouble).clone();
  processes.broadcast(row, 0);
  const auto* data = row.template const_data_ptr<double>();
  return {data, data + count};
}

/// Runs `work` on rank 0, and `meanwhile` on the others. If `work` throws, all throw: rank 0 the same exception, the
/// others an `Error` saying that rank 0 could not `purpose`.
template <Communicator Processes, class Work, class Meanwhile>
void on_first(const Processes& processes, const char* purpose, Work&& work, Meanwhile&& meanwhile) {
  std::exception_ptr problem;
  if (processes.rank() > 0) {
    meanwhile();
  } else {
    try {
      work();
    } catch (...) {
      problem = std::current_exception();
    }
  }
  const bool failed = any_of_all(problem != nullptr, processes);
  if (problem) std::rethrow_exception(problem);
  require(!failed, "training: rank 0 could not {}; its own message says why", purpose);
}

template <Communicator Processes, class Work>
void on_first(const Processes& processes, const char* purpose, Work&& work) {
  on_first(processes, purpose, std::forward<Work>(work), [] {});
}

/// A hash of names and shapes.
inline std::int64_t layout_hash(const Parameters& parameters) {
  auto hash = fnv_start;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    hash = fnv(shape_text(parameters.tensors[i].sizes()), fnv(parameters.names[i], hash));
  }
  return static_cast<std::int64_t>(hash);
}

/// Copies rank 0's weights to every process. Throws `Error` on every process when names or shapes differ.
template <Communicator Processes>
Parameters with_weights_of_first(Parameters parameters, const Processes& processes) {
  if (processes.size() == 1) return parameters;
  const auto prints = from_all(layout_hash(parameters), processes);
  for (std::size_t rank = 1; rank < prints.size(); ++rank) {
    require(prints[rank] == prints[0],
            "training: expected the same parameters on every process, found others on rank {} "
            "than on rank 0",
            rank);
  }
  for (const auto& tensor : parameters.tensors) processes.broadcast(tensor.detach(), 0);
  return parameters;
}

/// Mean of the losses of one update, scalars on one device, with a single read by the host.
inline double mean_of(const std::vector<at::Tensor>& losses) {
  std::vector<at::Tensor> flat;
  for (const auto& loss : losses) flat.push_back(loss.reshape({}));
  const auto values = at::stack(flat).to(at::kCPU, at::kDouble);
  double sum = 0.0;
  for (std::int64_t i = 0; i < values.size(0); ++i) {
    sum += values.const_data_ptr<double>()[i] / static_cast<double>(losses.size());
  }
  return sum;
}

/// Mean of all processes' losses; `bad` receives the ranks whose loss is not finite.
template <Communicator Processes>
double mean_loss(double mine, const Processes& processes, std::vector<std::int64_t>& bad) {
  const auto losses = from_all(mine, processes);
  double sum = 0.0;
  bad.clear();
  for (std::size_t rank = 0; rank < losses.size(); ++rank) {
    sum += losses[rank];
    if (!std::isfinite(losses[rank])) bad.push_back(static_cast<std::int64_t>(rank));
  }
  return sum / static_cast<double>(losses.size());
}

}  // namespace ip2p::detail
