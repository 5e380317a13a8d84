#pragma once

/// \file
/// Computes values ahead of their use in background threads.

#include <ATen/Parallel.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// Settings of `Prefetch`.
struct PrefetchOptions {
  std::int64_t workers = 2;  ///< Threads; 0 computes each value on demand.
  std::int64_t ahead = 4;    ///< Limit on values finished or in progress but not yet taken.
};

/// Returns make(first), make(first + 1), ... in this order, whatever the number of workers.
///
/// \code
/// ip2p::Prefetch<ip2p::NoisyBatch> batches([&](std::int64_t step) { return loss.batch(step); }, run.step());
/// run.run(10'000, [&](std::int64_t) { return loss.loss(batches.get()); });
/// \endcode
template <class Value>
class Prefetch {
 public:
  /// \param make must depend on its argument only; called from several threads, each limited to one LibTorch thread
  explicit Prefetch(std::function<Value(std::int64_t)> make, std::int64_t first = 0, PrefetchOptions options = {})
      : make_(std::move(make)), options_(options), next_(first), claimed_(first) {
    require(options.workers >= 0 && options.ahead >= 1,
            "prefetch: expected 0 or more workers and 1 or more values ahead, found {} and {}", options.workers,
            options.ahead);
    try {
      for (std::int64_t i = 0; i < options.workers; ++i) workers_.emplace_back([this] { work(); });
    } catch (...) {
      stop();  // those that were started, which are waited for
      throw;
    }
  }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  /// Waits for values in progress; values not taken are dropped.
  ~Prefetch() { stop(); }

  /// Number of the value that `get` returns next.
  [[nodiscard]] std::int64_t next() const { return next_; }

  /// The next value. Call from one thread only. Rethrows what `make` threw; the next call continues with the value
  /// after it.
  [[nodiscard]] Value get() {
    if (options_.workers == 0) return make_(next_++);
    std::unique_lock lock(mutex_);
    made_.wait(lock, [this] { return done_.contains(next_); });
    auto result = std::move(done_.extract(next_).mapped());
    ++next_;
    lock.unlock();
    room_.notify_all();
    if (result.failure) std::rethrow_exception(result.failure);
    return std::move(*result.value);
  }

 private:
  struct Result {
    std::optional<Value> value;
    std::exception_ptr failure;
  };

  void stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
  }

  void work() {
    at::set_num_threads(1);
    std::unique_lock lock(mutex_);
    while (true) {
      room_.wait(lock, [this] { return stopping_ || claimed_ - next_ < options_.ahead; });
      if (stopping_) return;
      const auto number = claimed_++;
      lock.unlock();
      Result result;
      try {
        result.value = make_(number);
      } catch (...) {
        result.failure = std::current_exception();
      }
      lock.lock();
      done_.emplace(number, std::move(result));
      made_.notify_one();
    }
  }

  std::function<Value(std::int64_t)> make_;
  PrefetchOptions options_;
  std::int64_t next_;     // next to take; written only by the consumer, under the lock
  std::int64_t claimed_;  // next to start
  bool stopping_ = false;
  std::map<std::int64_t, Result> done_;
  std::mutex mutex_;
  std::condition_variable made_, room_;
  std::vector<std::jthread> workers_;  // Last member, so that they are joined before what they use is destroyed.
};

}  // namespace ip2p
