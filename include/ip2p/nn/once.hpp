#pragma once

/// \file
/// Runs a piece of work once, however many threads ask for it.

#include <atomic>
#include <mutex>

namespace ip2p::detail {

/// Like `std::once_flag`, but can be reset. Of the threads that call, one does the work and the others wait. Once the
/// work is done, a call costs one atomic load.
class Once {
 public:
  /// Calls `work` unless it has already been done. \param work may throw; the next caller then tries again
  template <class Work>
  void call(Work&& work) const {
    if (done_.load(std::memory_order_acquire)) return;
    const std::scoped_lock alone(mutex_);
    if (done_.load(std::memory_order_relaxed)) return;
    work();
    done_.store(true, std::memory_order_release);
  }

  /// Makes the next caller do the work again. Must not run concurrently with `call`.
  void reset() { done_.store(false, std::memory_order_relaxed); }

  /// A lock; while it is held, no thread can do the work.
  [[nodiscard]] std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }

 private:
  mutable std::mutex mutex_;
  mutable std::atomic<bool> done_ = false;
};

}  // namespace ip2p::detail
