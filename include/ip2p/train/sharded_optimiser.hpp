#pragma once

/// \file
/// Divides optimiser state among processes (ZeRO, stage 1: Rajbhandari et al. 2020).

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/parallel/gradient_reducer.hpp"
#include "ip2p/train/gradients.hpp"
#include "ip2p/train/optimiser.hpp"

namespace ip2p {

/// Owner of tensors that every process holds.
inline constexpr std::int64_t every_process = -1;

/// Owners of `tensors` among `size` processes, balanced by elements: the largest first, each to the process with the
/// least so far. Depends only on the shapes and their order. Tensors are never split, so the largest share is at least
/// the largest tensor.
inline std::vector<std::int64_t> balanced_owners(const std::vector<at::Tensor>& tensors, std::int64_t size) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return tensors[a].numel() > tensors[b].numel(); });
  std::vector<std::int64_t> owners(tensors.size()), loads(static_cast<std::size_t>(size), 0);
  for (const auto i : order) {
    const auto least = std::min_element(loads.begin(), loads.end());
    *least += tensors[i].numel();
    owners[i] = least - loads.begin();
  }
  return owners;
}

/// Which process keeps the state of which parameter.
template <Communicator Processes>
class ParameterShards {
 public:
  /// \param parameters the same on every process, all of one dtype and device  \param divide false: each keeps all
  ParameterShards(std::vector<at::Tensor> parameters, Processes processes, bool divide)
      : parameters_(std::move(parameters)), processes_(std::move(processes)) {
    if (!divide || processes_.size() == 1) {
      owners_.assign(parameters_.size(), every_process);
      return;
    }
    for (const auto& parameter : parameters_) {
      require(parameter.scalar_type() == parameters_[0].scalar_type(),
              "training: expected parameters of one dtype where processes divide their state, found {} and {}",
              c10::toString(parameters_[0].scalar_type()), c10::toString(parameter.scalar_type()));
    }
    owners_ = balanced_owners(parameters_, processes_.size());
    divided_ = true;
  }

  /// Whether each process keeps a share rather than all.
  [[nodiscard]] bool divided() const { return divided_; }
  /// All of them.
  [[nodiscard]] const std::vector<at::Tensor>& parameters() const { return parameters_; }
  /// Rank of the process that keeps the state of parameter `i`; `every_process` if nothing is divided.
  [[nodiscard]] std::int64_t owner(std::size_t i) const { return owners_[i]; }
  /// Whether this process keeps the state of parameter `i`.
  [[nodiscard]] bool mine(std::size_t i) const { return !divided_ || owners_[i] == processes_.rank(); }

  /// The parameters whose state this process keeps.
  [[nodiscard]] std::vector<at::Tensor> own() const { return owned_by(processes_.rank()); }

  /// Sends each parameter's values from its owner to every process. Collective.
  void publish() const {
    if (!divided_) return;
    const at::NoGradGuard no_grad;
    for (std::int64_t owner = 0; owner < processes_.size(); ++owner) {
      for (const auto& part : detail::in_parts(owned_by(owner))) {
        if (owner == processes_.rank()) {
          processes_.broadcast(detail::flatten_all(part), owner);
          continue;
        }
        std::int64_t elements = 0;
        for (const auto& tensor : part) elements += tensor.numel();
        const auto row = at::empty({elements}, part.front().options().requires_grad(false));
        processes_.broadcast(row, owner);
        detail::unflatten_into(part, row);
      }
    }
  }

 private:
  [[nodiscard]] std::vector<at::Tensor> owned_by(std::int64_t rank) const {
    if (!divided_) return parameters_;
    std::vector<at::Tensor> result;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (owners_[i] == rank) result.push_back(parameters_[i]);
    }
    return result;
  }

  std::vector<at::Tensor> parameters_;
  Processes processes_;
  std::vector<std::int64_t> owners_;
  bool divided_ = false;
};

/// Any optimiser, with its state divided along the shards: each process updates its own parameters and sends the new
/// values to the others. Because the update of a parameter depends only on its own gradient and state
/// (`OptimiserPolicy`), the weights are bit for bit those of an undivided optimiser.
template <class Optimiser, Communicator Processes>
class ShardedOptimiser {
 public:
  /// Makes the optimiser of this process's share. \throws Error for options that the optimiser refuses
  ShardedOptimiser(ParameterShards<Processes> shards, const typename Optimiser::Options& options)
      : shards_(std::move(shards)), optimiser_(shards_.own(), options) {
    require_optimiser_policy<Optimiser>();
  }

  /// One update; every process must hold the same gradients. Collective if the state is divided.
  void step(double rate) {
    optimiser_.step(rate);
    shards_.publish();
  }

  /// Takes the gradients of all parameters away, those of other shares too.
  void zero_gradients() {
    optimiser_.zero_gradients();
    drop_gradients(shards_.parameters());
  }

  /// As in `OptimiserPolicy`, one tensor per parameter; undefined also if another process keeps it.
  [[nodiscard]] std::vector<OptimiserState> state() const {
    auto kinds = optimiser_.state();
    if (!shards_.divided()) return kinds;
    for (auto& kind : kinds) {
      std::vector<at::Tensor> all(shards_.parameters().size());
      std::size_t next = 0;
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (shards_.mine(i)) all[i] = kind.tensors[next++];
      }
      kind.tensors = std::move(all);
    }
    return kinds;
  }

  /// Which process keeps what.
  [[nodiscard]] const ParameterShards<Processes>& shards() const { return shards_; }

 private:
  ParameterShards<Processes> shards_;
  Optimiser optimiser_;
};

}  // namespace ip2p
