#pragma once

/// \file
/// The laws of `Communicator`.

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstdint>

#include "ip2p/parallel/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `Communicator` that `processes` breaks. Call it on every process.
template <class Processes>
void check_communicator(const Processes& processes) {
  require_communicator<Processes>();
  constexpr auto role = "Communicator";
  const std::int64_t rank = processes.rank();
  const std::int64_t size = processes.size();
  expect_law(size >= 1 && rank >= 0 && rank < size, role, "ranks are 0 ... size - 1", "rank {} of {}", rank, size);

  // Each rank's input, with and without fractions: a function of the rank, so that every process knows the sum.
  const auto whole = [](std::int64_t of) { return at::arange(7).add(1).mul((of + 1) * 1'000'003); };
  const auto fraction = [](std::int64_t of) {
    return at::arange(1, 13, at::kFloat).reciprocal().mul(1.0 / static_cast<double>(of + 3)).view({3, 4});
  };
  at::Tensor whole_sum = whole(0), fraction_sum = fraction(0);
  for (std::int64_t other = 1; other < size; ++other) {
    whole_sum = whole_sum + whole(other);
    fraction_sum = fraction_sum + fraction(other);
  }
  const Processes copy = processes;
  auto sum = whole(rank);
  copy.all_reduce(sum);
  const auto here = fmt::format("rank {}", rank);
  expect_same_bits(sum, whole_sum, role, "the sum over the ranks, exact for whole numbers", here);
  sum = fraction(rank);
  copy.all_reduce(sum);
  expect_close(sum, fraction_sum, 1e-6, role, "the sum over the ranks", here);
  if (size == 1) expect_same_bits(sum, fraction(0), role, "size 1 changes nothing", "all_reduce");
  auto everywhere = sum.clone();
  processes.broadcast(everywhere, 0);
  expect_same_bits(sum, everywhere, role, "the sum has the same bits everywhere", here);
  // A non-contiguous view must be changed in place without touching its neighbours.
  auto table = at::zeros({3, 8});
  table.narrow(1, 2, 4).copy_(fraction(rank));
  processes.all_reduce(table.narrow(1, 2, 4));
  auto expected = at::zeros({3, 8});
  expected.narrow(1, 2, 4).copy_(fraction_sum);
  expect_close(table, expected, 1e-6, role, "the sum over the ranks", "a view of columns 2 to 5, " + here);

  for (std::int64_t root = 0; root < size; ++root) {
    auto tensor = whole(rank);
    processes.broadcast(tensor, root);
    expect_same_bits(tensor, whole(root), role, "broadcast leaves the root's bits",
                     fmt::format("root {}, rank {}", root, rank));
    processes.barrier();
  }
  expect_law(processes.rank() == rank && processes.size() == size && copy.rank() == rank && copy.size() == size, role,
             "ranks stay what they are", "expected rank {} of {}, found {} of {}, in a copy {} of {}", rank, size,
             processes.rank(), processes.size(), copy.rank(), copy.size());
}

}  // namespace ip2p::testing
