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

/// Says that some model has changed in what its `fingerprint()` covers: weights in another place or form, a LoRA. Every
/// change that this library makes is noted. A network of your own that changes during a run, between two evaluations,
/// calls this; a change between runs need not be noted.
inline void note_model_change() noexcept { detail::model_changes.fetch_add(1, std::memory_order_acq_rel); }

/// A number that is another one after each noted change.
[[nodiscard]] inline std::uint64_t model_changes() noexcept {
  return detail::model_changes.load(std::memory_order_acquire);
}

}  // namespace ip2p
