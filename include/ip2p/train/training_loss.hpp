#pragma once

/// \file
/// Contract of losses: what a training run calls.

#include <concepts>
#include <cstdint>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// A loss that knows the parts of its batch: loss(step, part, parts) is the mean loss of the `part`-th of `parts` equal
/// parts of the batch of update `step`.
///
/// Laws: a function of its arguments; the mean over the parts of a batch is the loss of the batch.
template <class Loss>
concept LossByParts = std::invocable<Loss, std::int64_t, std::int64_t, std::int64_t>;

/// A loss by parts, or a loss(step) of a batch that cannot be split. It returns a scalar that depends on the
/// parameters, or one without a graph when it has added the gradients to those of the parameters itself
/// (`ShardedLoss`).
template <class Loss>
concept TrainingLoss = LossByParts<Loss> || std::invocable<Loss, std::int64_t>;

/// Explains in one line what a loss lacks.
template <class Loss>
consteval void require_training_loss() {
  static_assert(TrainingLoss<Loss>,
                "ip2p: TrainingLoss needs `Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts)` "
                "or `Tensor operator()(std::int64_t step)`; see docs/reference/concepts.md#trainingloss");
}

namespace detail {

template <TrainingLoss Loss>
at::Tensor loss_of_part(Loss& loss, std::int64_t step, std::int64_t part, std::int64_t parts) {
  if constexpr (LossByParts<Loss&>) {
    return loss(step, part, parts);
  } else {
    require(
        parts == 1,
        "training: expected a loss that is called as loss(step, part, parts) for a batch in {} parts, found one that "
        "takes the step alone",
        parts);
    return loss(step);
  }
}

}  // namespace detail

}  // namespace ip2p
