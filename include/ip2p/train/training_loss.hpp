#pragma once

/// \file
/// Concepts for losses, which a `Trainer` minimises.
///
/// Skeleton:
/// \code
/// struct MyLoss {
///   at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const;  // a scalar with graph
/// };
/// static_assert(ip2p::LossByParts<MyLoss>);
/// \endcode

#include <c10/core/ScalarType.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// A loss that can split its batch: loss(step, part, parts) is the mean loss of the `part`-th of `parts` equal parts of
/// the batch of update `step`.
///
/// Laws: a function of its arguments; the mean over the parts of a batch is the loss of the batch. With
/// `TrainingOptionsOf::threads` > 1 it is called concurrently.
template <class Loss>
concept LossByParts = std::is_invocable_r_v<at::Tensor, Loss, std::int64_t, std::int64_t, std::int64_t>;

/// A loss by parts, or loss(step) for a batch that cannot be split. It returns a scalar with its graph, or one without
/// if it has already added its gradients to those of the parameters.
template <class Loss>
concept TrainingLoss = LossByParts<Loss> || std::is_invocable_r_v<at::Tensor, Loss, std::int64_t>;

/// A loss by parts that makes its batches in a separate call, so that they can be prefetched
/// (`TrainingOptionsOf::prefetch`):
///
///     Batch batch(std::int64_t step, std::int64_t part, std::int64_t parts) const;  // called from several threads
///     at::Tensor loss(const Batch& batch) const;
///
/// Law: loss(batch(step, part, parts)) equals loss(step, part, parts).
template <class Loss>
concept LossOfBatches = LossByParts<const Loss&> && requires(const Loss& loss, std::int64_t n) {
  { loss.loss(loss.batch(n, n, n)) } -> std::convertible_to<at::Tensor>;
};

/// Stops compilation with one sentence unless `Loss` is a `TrainingLoss`.
template <class Loss>
consteval void require_training_loss() {
  static_assert(TrainingLoss<Loss>,
                "ip2p: TrainingLoss needs `Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) "
                "const` or `Tensor operator()(std::int64_t step) const`; see docs/reference/concepts.md#trainingloss");
}

namespace detail {

/// A loss that reports the dtype of its forward pass, because fp16 needs loss scaling.
template <class Loss>
concept TellsCompute = requires(const Loss& loss) {
  { loss.compute() } -> std::convertible_to<at::ScalarType>;
};

template <class Loss>
at::Tensor loss_of_part(Loss& loss, std::int64_t step, std::int64_t part, std::int64_t parts) {
  if constexpr (LossByParts<Loss&>) {
    return loss(step, part, parts);
  } else if constexpr (TrainingLoss<Loss&>) {
    require(
        parts == 1,
        "training: expected a loss that is called as loss(step, part, parts) for a batch in {} parts, found one that "
        "takes the step alone",
        parts);
    return loss(step);
  } else {
    return {};  // unreachable: the constructor rejects such a loss
  }
}

}  // namespace detail

}  // namespace ip2p
