#pragma once

/// \file
/// Random choices for data preparation as a function of (seed, step, sample).

#include <ATen/core/PhiloxRNGEngine.h>

#include <cstdint>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// A short stream of uniform numbers for one sample of one step. It does not depend on what was drawn elsewhere, so the
/// result is the same for any batch size, number of processes, or resumed run.
class SampleRandom {
 public:
  /// \param step and \param sample below 2^32
  SampleRandom(std::uint64_t seed, std::uint64_t step, std::uint64_t sample)
      : engine_(seed, (step << 32) | (sample & 0xffffffffu)) {}

  /// Uniform in [0, 1), 53 bits.
  double uniform() {
    const std::uint64_t high = engine_();
    return static_cast<double>(((high << 32) | engine_()) >> 11) * 0x1p-53;
  }

  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// A whole number, uniform in 0 ... count - 1. \throws Error unless count > 0
  std::int64_t below(std::int64_t count) {
    require(count > 0, "random choice: expected at least 1 item to choose from, found {}", count);
    return static_cast<std::int64_t>(uniform() * static_cast<double>(count));
  }

 private:
  at::philox_engine engine_;
};

}  // namespace ip2p
