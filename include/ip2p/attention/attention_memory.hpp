#pragma once

/// \file
/// What attention policies keep within one run, so that policies themselves stay values without a state.

#include <any>
#include <cstdint>
#include <map>
#include <utility>

#include "ip2p/core/step.hpp"

namespace ip2p {

/// Holds what a policy derives from the step and a size alone (weights of tokens, indices of rows), which all attention
/// layers of a step share. A run owns one and hands it to the policies in `AttentionSite::memory`; it serves one
/// thread.
class AttentionMemory {
 public:
  /// What `make()` gives, made once for each evaluation of the denoiser.
  /// \param owner the policy that asks; \param size what the value depends on besides, e.g. a number of tokens
  template <class Value, class Make>
  const Value& once(const void* owner, const Step& step, std::int64_t size, Make&& make) {
    auto& entry = entries_[{owner, size}];
    if (!entry.value.has_value() || entry.index != step.index || entry.sigma != step.sigma) {
      entry.value = Value(make());
      entry.index = step.index;
      entry.sigma = step.sigma;
    }
    return std::any_cast<const Value&>(entry.value);
  }

 private:
  struct Entry {
    std::any value;
    std::int64_t index = 0;
    double sigma = 0.0;
  };
  std::map<std::pair<const void*, std::int64_t>, Entry> entries_;
};

}  // namespace ip2p
