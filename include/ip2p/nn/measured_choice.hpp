#pragma once

/// \file
/// Chooses between two ways to compute the same by timing both, where cuDNN may time its own.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// Seconds that `work` takes on `device`, the least of three runs after one that is not counted.
template <class Work>
double seconds_on(c10::Device device, Work&& work) {
  work();  // forms weights, chooses algorithms, fetches memory
  double least = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 3; ++run) {
    if (device.is_cpu()) {
      const auto begin = std::chrono::steady_clock::now();
      work();
      least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      continue;
    }
    const auto stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    c10::Event begin(device.type(), c10::EventFlag::BACKEND_DEFAULT);
    c10::Event end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
    begin.record(stream);
    work();
    end.record(stream);
    end.synchronize();
    least = std::min(least, begin.elapsedTime(end) / 1e3);
  }
  return least;
}

/// Remembers for each shape, dtype and device which of two works is faster.
class MeasuredChoice {
 public:
  /// Whether to measure on the device of `x`: where cuDNN may measure its algorithms (`benchmark_convolutions`),
  /// results depend on timings anyway.
  [[nodiscard]] static bool allowed(const at::Tensor& x) { return x.is_cuda() && at::globalContext().benchmarkCuDNN(); }

  /// \param x input of both; only its shape, dtype and device count  \param seconds of a work, `seconds_on` but in
  /// tests
  template <class First, class Second, class Seconds>
  [[nodiscard]] bool second_is_faster(const at::Tensor& x, First&& first, Second&& second, Seconds&& seconds) {
    auto key = x.sizes().vec();
    key.push_back(static_cast<std::int64_t>(x.scalar_type()));
    key.push_back(x.device().index());
    const std::scoped_lock alone(mutex_);
    if (const auto known = second_.find(key); known != second_.end()) return known->second;
    const bool faster = seconds(x.device(), second) < seconds(x.device(), first);
    second_.emplace(std::move(key), faster);
    return faster;
  }

  /// Forgets what was measured.
  void reset() {
    const std::scoped_lock alone(mutex_);
    second_.clear();
  }

 private:
  std::mutex mutex_;
  std::map<std::vector<std::int64_t>, bool> second_;
};

}  // namespace ip2p::detail
