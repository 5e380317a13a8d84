#pragma once

// Threads that act as processes, for tests of what processes do together.

#include <ATen/Parallel.h>

#include <barrier>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "ip2p/parallel/concepts.hpp"

namespace ip2p::testing {

/// What threads that act as processes share.
struct Room {
  explicit Room(std::int64_t size) : meeting(size), slots(static_cast<std::size_t>(size)) {}
  std::barrier<> meeting;
  std::vector<at::Tensor> slots;
};

enum class Defect { none, forgets_last, keeps_own, other_ranks };

/// A communicator between threads: in every call, all of them meet.
struct Threads {
  std::int64_t rank_ = 0, size_ = 1;
  Room* room = nullptr;
  Defect defect = Defect::none;

  std::int64_t rank() const { return defect == Defect::other_ranks ? rank_ + 1 : rank_; }
  std::int64_t size() const { return size_; }
  void broadcast(const at::Tensor& tensor, std::int64_t root) const {
    post(tensor);
    if (defect != Defect::keeps_own) tensor.copy_(room->slots[static_cast<std::size_t>(root)]);
    barrier();
  }
  void all_reduce(const at::Tensor& tensor) const {
    post(tensor);
    tensor.zero_();
    const auto last = size_ - (defect == Defect::forgets_last ? 1 : 0);
    for (std::int64_t other = 0; other < last; ++other) tensor.add_(room->slots[static_cast<std::size_t>(other)]);
    barrier();
  }
  void barrier() const { room->meeting.arrive_and_wait(); }

 private:
  void post(const at::Tensor& tensor) const {
    room->slots[static_cast<std::size_t>(rank_)] = tensor.clone();
    barrier();
  }
};
static_assert(Communicator<Threads>);

/// Calls `work(threads)` once for each rank and rethrows what the lowest rank threw.
template <class Work>
void as_processes(std::int64_t size, Defect defect, Work&& work) {
  Room room(size);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (std::int64_t rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        at::set_num_threads(1);
        try {
          work(Threads{rank, size, &room, defect});
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
          room.meeting.arrive_and_drop();
        }
      });
    }
  }
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace ip2p::testing
