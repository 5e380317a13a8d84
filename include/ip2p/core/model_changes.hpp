#pragma once

/// \file
/// Counts changes of models, so that what was derived from one is derived again only after a change.

#include <atomic>
#include <cstdint>

namespace ip2p {

namespace detail {

/// Changes so far, of all models of the process.
inline std::atomic<std::uint64_t> model_changes{0};

}  // namespace detail

/// Notes that a model has changed in something that its `fingerprint()` covers: weights in another place or form, a
/// LoRA. The library notes every change that it makes. If a network of your own changes during a run, between two
/// evaluations, call this; a change between runs need not be noted.
inline void note_model_change() noexcept { detail::model_changes.fetch_add(1, std::memory_order_acq_rel); }

/// A number that changes with every noted change.
[[nodiscard]] inline std::uint64_t model_changes() noexcept {
  return detail::model_changes.load(std::memory_order_acquire);
}

}  // namespace ip2p
