#pragma once

/// \file
/// One update's gradients computed by several threads, each with its own part of the batch.

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdint>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/train/training_loss.hpp"

namespace ip2p {

/// Splits an update over threads that share the weights and meet once, at the end. Where cores are shared with other
/// work this uses them better than operators that each wait for their slowest thread, and small operators, which do not
/// split well, run side by side.
///
/// Shards are numbered by the caller's count and summed in that order, so that the result does not depend on timing.
template <class Loss>
class ShardedLoss {
  static_assert(LossByParts<const Loss&>, "ip2p: ShardedLoss needs a loss that is called as loss(step, part, parts)");

 public:
  /// \param loss called as loss(step, shard, shards) from several threads at once; returns the shard's mean loss
  /// \param shards equal parts of the batch, >= 1, one thread each
  ShardedLoss(Loss loss, Parameters parameters, std::int64_t shards)
      : loss_(std::move(loss)), parameters_(std::move(parameters)), shards_(shards) {
    require(shards >= 1, "training shards: expected at least 1, found {}", shards);
  }

  /// Adds the mean gradient to those of the parameters, as a backward pass does, and returns the mean loss, a scalar
  /// without a graph. Throws what a shard threw; gradients are undefined then.
  /// \param part of `parts` equal parts of the batch, where threads share what one of several processes computes
  at::Tensor operator()(std::int64_t step, std::int64_t part = 0, std::int64_t parts = 1) const {
    const auto count = static_cast<std::size_t>(shards_);
    std::vector<at::Tensor> losses(count);
    std::vector<std::vector<at::Tensor>> gradients(count);
    std::vector<std::exception_ptr> failures(count);
    const auto work = [&](std::size_t shard) {
      try {
        const auto loss = loss_(step, part * shards_ + static_cast<std::int64_t>(shard), parts * shards_);
        gradients[shard] = torch::autograd::grad({loss}, parameters_.tensors, {}, {}, false, /*allow_unused=*/true);
        losses[shard] = loss.detach();
      } catch (...) {
        failures[shard] = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (std::size_t shard = 1; shard < count; ++shard) {
        threads.emplace_back([&, shard] {
          at::set_num_threads(1);
          work(shard);
        });
      }
      work(0);
    }
    for (const auto& failure : failures) {
      if (failure) std::rethrow_exception(failure);
    }

    const at::NoGradGuard no_grad;
    const double share = 1.0 / static_cast<double>(shards_);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      at::Tensor sum;
      for (auto& parts : gradients) {
        if (!parts[i].defined()) continue;
        sum = sum.defined() ? sum.add_(parts[i]) : parts[i];
      }
      if (!sum.defined()) continue;
      if (shards_ > 1) sum.mul_(share);
      auto& gradient = parameters_.tensors[i].mutable_grad();
      gradient = gradient.defined() ? gradient.add_(sum) : sum;
    }
    auto total = losses[0].clone();
    for (std::size_t shard = 1; shard < count; ++shard) total.add_(losses[shard]);
    return total.mul_(share);
  }

 private:
  Loss loss_;
  Parameters parameters_;
  std::int64_t shards_;
};

}  // namespace ip2p
