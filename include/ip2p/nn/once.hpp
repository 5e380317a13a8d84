#pragma once

/// \file
/// Work that the first of several callers does for all.

#include <atomic>
#include <mutex>

namespace ip2p::detail {

/// A `std::once_flag` that can be reset: of the threads that call, one does the work and the others wait for it. Costs
/// one atomic load once the work is done.
class Once {
 public:
  /// \param work may throw; the next caller then tries again
  template <class Work>
  void call(Work&& work) const {
    if (done_.load(std::memory_order_acquire)) return;
    const std::scoped_lock alone(mutex_);
    if (done_.load(std::memory_order_relaxed)) return;
    work();
    done_.store(true, std::memory_order_release);
  }

  /// The next caller works again. Not while others call.
  void reset() { done_.store(false, std::memory_order_relaxed); }

  /// While it is kept, nobody works.
  [[nodiscard]] std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }

 private:
  mutable std::mutex mutex_;
  mutable std::atomic<bool> done_ = false;
};

}  // namespace ip2p::detail
