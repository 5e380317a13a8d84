#pragma once

/// \file
/// Supplies the parts of a trainer's updates, computed on demand or ahead of their use.

#include <cstdint>
#include <utility>

#include "ip2p/data/prefetch.hpp"
#include "ip2p/train/training_loss.hpp"

namespace ip2p::detail {

/// Computes everything on demand.
template <class Loss>
class PartsWhenDue {
 public:
  struct Part {
    std::int64_t step, part, parts;
  };

  explicit PartsWhenDue(Loss& loss) : loss_(&loss) {}

  /// Called by one thread, in the order of parts.
  [[nodiscard]] Part take(std::int64_t step, std::int64_t part, std::int64_t parts) { return {step, part, parts}; }

  /// May be called by several threads at once.
  [[nodiscard]] at::Tensor loss(const Part& part) const {
    return loss_of_part(*loss_, part.step, part.part, part.parts);
  }

 private:
  Loss* loss_;
};

/// Background threads make the batches. A process takes the parts of each update in a fixed order, which numbers them.
template <LossOfBatches Loss>
class PartsAhead {
 public:
  using Part = decltype(std::declval<const Loss&>().batch(0, 0, 1));

  /// \param step first update  \param first, count this process's parts of an update  \param parts of all processes
  PartsAhead(const Loss& loss, std::int64_t step, std::int64_t first, std::int64_t count, std::int64_t parts,
             PrefetchOptions options)
      : loss_(&loss),
        batches_(
            [&loss, first, count, parts](std::int64_t n) { return loss.batch(n / count, first + n % count, parts); },
            step * count, options) {}

  [[nodiscard]] Part take(std::int64_t, std::int64_t, std::int64_t) { return batches_.get(); }
  [[nodiscard]] at::Tensor loss(const Part& batch) const { return loss_->loss(batch); }

 private:
  const Loss* loss_;
  Prefetch<Part> batches_;
};

}  // namespace ip2p::detail
