#pragma once

/// \file
/// Moves the tensors of a training run, which may be spread over processes, to a checkpoint and back.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/sharded_optimiser.hpp"

namespace ip2p {

/// One tensor of a run, with its name in checkpoints.
struct RunTensor {
  std::string name;
  std::int64_t owner = every_process;  ///< Rank of the process that holds it.
  at::Tensor tensor{};                 ///< Undefined on other processes, and if it does not exist.
  std::vector<std::int64_t> shape{};   ///< This and what follows is filled in by `RunTensors`.
  at::ScalarType dtype = at::kFloat;   ///< Filled in like the shape.
  at::Device device = at::kCPU;        ///< Filled in like the shape.
};

/// All tensors of a run; each process holds all or some. Every process must call the functions marked collective.
/// Unless the state is divided, only `receive` communicates. Tensors are sent one at a time, so a process needs memory
/// for just one that it does not hold.
template <Communicator Processes>
class RunTensors {
 public:
  /// \param tensors the same names and owners on every process. Collective.
  RunTensors(Processes processes, std::vector<RunTensor> tensors) : processes_(std::move(processes)) {
    describe(tensors);
    for (auto& tensor : tensors) {
      if (tensor.shape != nowhere()) list_.push_back(std::move(tensor));
    }
  }

  /// Calls `take(name, values)` with every tensor, in order; tensors of other processes are valid until it returns.
  /// Collective.
  template <class Take>
  void for_each(Take&& take) const {
    for (const auto& entry : list_) take(entry.name, fetch(entry));
  }

  /// Calls `use` on rank 0 with all tensors as entries that may be read in any order and more than once. The others
  /// serve reads until `use` returns. Collective.
  template <class Use>
  void lend_to_first(Use&& use) const {
    constexpr std::int64_t over = -1;
    if (processes_.rank() > 0) {
      for (auto wanted = tell(over); wanted != over; wanted = tell(over))
        fetch(list_[static_cast<std::size_t>(wanted)]);
      return;
    }
    Weights entries;
    for (std::size_t i = 0; i < list_.size(); ++i) {
      entries.emplace(list_[i].name, WeightEntry{list_[i].shape, list_[i].dtype, [this, i] {
                                                   if (list_[i].owner > 0) tell(static_cast<std::int64_t>(i));
                                                   return list_[i].owner > 0 ? fetch(list_[i]) : list_[i].tensor;
                                                 }});
    }
    std::exception_ptr problem;
    try {
      use(std::as_const(entries));
    } catch (...) {
      problem = std::current_exception();
    }
    try {
      tell(over);
    } catch (...) {
      if (!problem) throw;
    }
    if (problem) std::rethrow_exception(problem);
  }

  /// Throws `Error` unless `checkpoint` holds these tensors and no others.
  void verify(const Checkpoint& checkpoint) const {
    for (const auto& entry : list_) {
      const auto found = checkpoint.tensors.find(entry.name);
      require(found != checkpoint.tensors.end(), "checkpoint of step {}: no tensor '{}'", checkpoint.step, entry.name);
      require(found->second.sizes() == at::IntArrayRef(entry.shape),
              "checkpoint of step {}: tensor '{}': expected {}, found {}", checkpoint.step, entry.name,
              shape_text(entry.shape), shape_text(found->second.sizes()));
    }
    require(checkpoint.tensors.size() == list_.size(), "checkpoint of step {}: expected {} tensors, found {}",
            checkpoint.step, list_.size(), checkpoint.tensors.size());
  }

  /// Copies this process's tensors from a checkpoint that it has itself.
  void take(const Checkpoint& checkpoint) const {
    const at::NoGradGuard no_grad;
    for (const auto& entry : list_) {
      if (entry.tensor.defined()) entry.tensor.copy_(checkpoint.tensors.at(entry.name));
    }
  }

  /// The same from a checkpoint that only rank 0 has. Collective.
  /// \param checkpoint ignored except on rank 0
  void receive(const Checkpoint& checkpoint) const {
    if (processes_.size() == 1) return take(checkpoint);
    const at::NoGradGuard no_grad;
    for (const auto& entry : list_) {
      if (processes_.rank() > 0) {
        processes_.broadcast(entry.tensor.defined() ? entry.tensor : room_for(entry), 0);
        continue;
      }
      const auto values = checkpoint.tensors.at(entry.name).to(entry.device, entry.dtype);
      processes_.broadcast(values, 0);
      if (entry.tensor.defined()) entry.tensor.copy_(values);
    }
  }

 private:
  static std::vector<std::int64_t> nowhere() { return {-1}; }

  /// Fills in shape, dtype and device, which a process that does not hold a tensor must learn from its owner.
  void describe(std::vector<RunTensor>& tensors) const {
    constexpr std::int64_t most_dims = 16, columns = 4 + most_dims;  // exists, dtype, on a CPU, dimensions, sizes
    const auto table = at::zeros({static_cast<std::int64_t>(tensors.size()), columns}, at::kLong);
    bool asks = false;
    at::Device home = at::kCPU;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto& [name, owner, tensor, shape, dtype, device] = tensors[i];
      asks = asks || owner != every_process;
      if (tensor.defined() && !tensor.is_cpu()) home = tensor.device();
      if (!tensor.defined() || (owner == every_process && processes_.rank() > 0)) continue;
      require(tensor.dim() <= most_dims, "training: tensor '{}': expected at most {} dimensions, found {}", name,
              most_dims, tensor.dim());
      auto* row = table.template data_ptr<std::int64_t>() + static_cast<std::int64_t>(i) * columns;
      row[0] = 1;
      row[1] = static_cast<std::int64_t>(tensor.scalar_type());
      row[2] = tensor.is_cpu() ? 1 : 0;
      row[3] = tensor.dim();
      for (std::int64_t d = 0; d < tensor.dim(); ++d) row[4 + d] = tensor.size(d);
    }
    if (asks) processes_.all_reduce(table);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto& entry = tensors[i];
      if (!asks) {
        entry.shape = entry.tensor.defined() ? entry.tensor.sizes().vec() : nowhere();
        if (!entry.tensor.defined()) continue;
        entry.dtype = entry.tensor.scalar_type();
        entry.device = entry.tensor.device();
        continue;
      }
      const auto* row = table.template const_data_ptr<std::int64_t>() + static_cast<std::int64_t>(i) * columns;
      entry.shape = row[0] == 1 ? std::vector<std::int64_t>(row + 4, row + 4 + row[3]) : nowhere();
      entry.dtype = static_cast<at::ScalarType>(row[1]);
      entry.device = row[2] == 1 ? at::Device(at::kCPU) : home;
    }
  }

  static at::Tensor room_for(const RunTensor& entry) {
    return at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype).device(entry.device));
  }

  /// Values of a tensor. Collective if a single process owns it.
  at::Tensor fetch(const RunTensor& entry) const {
    if (entry.owner == every_process) return entry.tensor;
    const auto values = entry.tensor.defined() ? entry.tensor : room_for(entry);
    processes_.broadcast(values, entry.owner);
    return values;
  }

  /// Broadcasts rank 0's number. Collective.
  std::int64_t tell(std::int64_t number) const {
    if (!divided()) return number;
    const auto word = at::full({1}, number, at::kLong);
    processes_.broadcast(word, 0);
    return word.template item<std::int64_t>();
  }

  [[nodiscard]] bool divided() const {
    for (const auto& entry : list_) {
      if (entry.owner != every_process) return true;
    }
    return false;
  }

  Processes processes_;
  std::vector<RunTensor> list_;
};

}  // namespace ip2p
