#pragma once

/// \file
/// The Communicator concept: the operations that processes training one model together need.
///
/// Skeleton of your own communicator:
///
///     struct MyProcesses {
///       std::int64_t rank() const;                                       // 0 ... size() - 1
///       std::int64_t size() const;                                       // >= 1
///       void broadcast(const at::Tensor& tensor, std::int64_t root) const;  // in place: the root's values everywhere
///       void all_reduce(const at::Tensor& tensor) const;                 // in place: the sum over all processes
///       void barrier() const;                                            // returns when all have called it
///     };
///     static_assert(ip2p::Communicator<MyProcesses>);  // then, on every process:
///     ip2p::testing::check_communicator(...)

#include <concepts>
#include <cstdint>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

template <class Processes>
concept HasRank = requires(const Processes& processes) {
  { processes.rank() } -> std::convertible_to<std::int64_t>;
  { processes.size() } -> std::convertible_to<std::int64_t>;
};

template <class Processes>
concept HasBroadcast = requires(const Processes& processes, const at::Tensor& tensor, std::int64_t root) {
  processes.broadcast(tensor, root);
};

template <class Processes>
concept HasAllReduce = requires(const Processes& processes, const at::Tensor& tensor) {
  processes.all_reduce(tensor);
};

template <class Processes>
concept HasBarrier = requires(const Processes& processes) {
  processes.barrier();
};

}  // namespace detail

/// One process's view of the group that it was started with. Every process makes the same calls in the same order, with
/// tensors of the same shape and dtype.
///
/// Laws (`ip2p::testing::check_communicator`):
///  1. ranks are 0 ... size - 1, each once, and never change; copies act for the same process;
///  2. `all_reduce` leaves on every process the sum over the ranks, exact for whole numbers, and the same bits
///  everywhere;
///  3. `broadcast` leaves the root's bits on every process;
///  4. size 1 changes nothing;
///  5. when a process dies, the others fail with `Error` instead of waiting forever.
template <class Processes>
concept Communicator = std::copyable<Processes> && detail::HasRank<Processes> && detail::HasBroadcast<Processes> &&
    detail::HasAllReduce<Processes> && detail::HasBarrier<Processes>;

/// Stops compilation with one sentence unless `Processes` is a `Communicator`.
template <class Processes>
consteval void require_communicator() {
  static_assert(std::copyable<Processes>,
                "ip2p: Communicator needs to be copyable; see docs/reference/concepts.md#communicator");
  static_assert(detail::HasRank<Processes>,
                "ip2p: Communicator needs `std::int64_t rank() const` and `std::int64_t size() const`; "
                "see docs/reference/concepts.md#communicator");
  static_assert(detail::HasBroadcast<Processes>,
                "ip2p: Communicator needs `void broadcast(const Tensor& tensor, std::int64_t root) const`; "
                "see docs/reference/concepts.md#communicator");
  static_assert(detail::HasAllReduce<Processes>,
                "ip2p: Communicator needs `void all_reduce(const Tensor& tensor) const`; "
                "see docs/reference/concepts.md#communicator");
  static_assert(detail::HasBarrier<Processes>,
                "ip2p: Communicator needs `void barrier() const`; see docs/reference/concepts.md#communicator");
}

}  // namespace ip2p
