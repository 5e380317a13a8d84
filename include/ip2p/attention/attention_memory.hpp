#pragma once

/// \file
/// Values that attention policies cache during a run, so that the policies themselves can stay stateless.

#include <any>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "ip2p/core/step.hpp"

namespace ip2p {

/// Holds what a policy derives from little more than the step (weights of tokens, indices of rows), for all attention
/// layers of a step or for the whole run. A run owns one and hands it to the policies in `AttentionSite::memory`; it
/// serves one thread.
class AttentionMemory {
 public:
  /// The result of `make()`, computed once per evaluation of the denoiser.
  /// \param owner the calling policy  \param size what else the value depends on, e.g. a number of tokens
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

  /// What `make()` gives, made once in the run for each `key`.
  /// \param owner the policy that asks; \param key all that the value depends on within a run
  template <class Value, class Make>
  const Value& once_a_run(const void* owner, const std::vector<std::int64_t>& key, Make&& make) {
    auto& value = kept_[{owner, key}];
    if (!value.has_value()) value = Value(make());
    return std::any_cast<const Value&>(value);
  }

 private:
  struct Entry {
    std::any value;
    std::int64_t index = 0;
    double sigma = 0.0;
  };
  std::map<std::pair<const void*, std::int64_t>, Entry> entries_;
  std::map<std::pair<const void*, std::vector<std::int64_t>>, std::any> kept_;
};

}  // namespace ip2p
