#pragma once

/// \file
/// The shuffled order of each epoch of a run, computed once.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "ip2p/data/edit_pairs.hpp"

namespace ip2p {

/// Maps the n-th sample of a run to an item, using `epoch_order`. Keeps the orders of the last two epochs used, so that
/// threads working on neighbouring batches compute each only once. Copies share them; may be called from several
/// threads.
class EpochOrders {
 public:
  /// \param seed of the orders; equal seeds give equal orders
  explicit EpochOrders(std::uint64_t seed) : seed_(seed), kept_(std::make_shared<Kept>()) {}

  /// Item of sample n, from 0 to size - 1. \param n from 0, counted over all epochs  \throws Error unless size > 0
  [[nodiscard]] std::int64_t item(std::int64_t n, std::int64_t size) const {
    require(size > 0, "pair source: expected at least one pair, found {}", size);
    return (*order(n / size, size))[static_cast<std::size_t>(n % size)];
  }

  /// Number of orders computed so far by all copies.
  [[nodiscard]] std::int64_t made() const {
    const std::scoped_lock lock(kept_->mutex);
    return kept_->made;
  }

 private:
  using Order = std::shared_ptr<const std::vector<std::int64_t>>;

  struct Kept {
    struct Entry {
      std::int64_t epoch = -1, size = 0;
      Order order;
    };
    std::mutex mutex;
    Entry newer, older;
    std::int64_t made = 0;
  };

  /// Holds the lock while computing, so that a thread that needs the same order waits instead of computing it again.
  [[nodiscard]] Order order(std::int64_t epoch, std::int64_t size) const {
    const std::scoped_lock lock(kept_->mutex);
    for (const auto* entry : {&kept_->newer, &kept_->older}) {
      if (entry->epoch == epoch && entry->size == size) return entry->order;
    }
    auto made = std::make_shared<const std::vector<std::int64_t>>(epoch_order(seed_, epoch, size));
    kept_->older = std::exchange(kept_->newer, {epoch, size, std::move(made)});
    ++kept_->made;
    return kept_->newer.order;
  }

  std::uint64_t seed_;
  std::shared_ptr<Kept> kept_;
};

}  // namespace ip2p
