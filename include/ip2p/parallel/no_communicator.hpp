#pragma once

/// \file
/// One process alone.

#include "ip2p/parallel/concepts.hpp"

namespace ip2p {

/// Communicator of a single process: every operation is a no-op.
struct NoCommunicator {
  /// Always 0.
  static constexpr std::int64_t rank() { return 0; }
  /// Always 1.
  static constexpr std::int64_t size() { return 1; }
  /// Does nothing.
  void broadcast(const at::Tensor&, std::int64_t) const {}
  /// Does nothing: the sum over one process.
  void all_reduce(const at::Tensor&) const {}
  /// Returns at once.
  void barrier() const {}
};
static_assert(Communicator<NoCommunicator>);

}  // namespace ip2p
