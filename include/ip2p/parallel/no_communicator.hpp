#pragma once

/// \file
/// One process alone.

#include "ip2p/parallel/concepts.hpp"

namespace ip2p {

/// The null object of the folder: nobody to talk to, so nothing is done.
struct NoCommunicator {
  static constexpr std::int64_t rank() { return 0; }
  static constexpr std::int64_t size() { return 1; }
  void broadcast(const at::Tensor&, std::int64_t) const {}
  void all_reduce(const at::Tensor&) const {}
  void barrier() const {}
};
static_assert(Communicator<NoCommunicator>);

}  // namespace ip2p
