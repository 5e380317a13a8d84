#pragma once

/// \file
/// Work in LibTorch's own threads. `at::parallel_for` of its headers is a plain loop in a program that is compiled
/// without OpenMP, and with it may bring a second set of threads.

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/empty.h>
#include <c10/util/FunctionRef.h>

#include <algorithm>
#include <cstdint>

#include "ip2p/core/tensor.hpp"

namespace ip2p::detail {

/// Calls `work(first, last)` for parts of [0, tasks), one part for each thread, and waits for all.
/// \param at_least tasks of a thread, so that little work is not divided
/// \throws what `work` throws
inline void in_threads(std::int64_t tasks, std::int64_t at_least,
                       c10::function_ref<void(std::int64_t, std::int64_t)> work) {
  if (tasks <= 0) return;
  if (tasks <= std::max<std::int64_t>(at_least, 1) || at::in_parallel_region() || at::get_num_threads() == 1) {
    work(std::int64_t{0}, tasks);
    return;
  }
  // LibTorch's compiled code divides the elements of a tensor among its threads. Here a byte stands for a task; none is
  // ever read or written.
  const auto bytes = at::empty({tasks}, at::kByte);
  const char* start = static_cast<const char*>(bytes.data_ptr());
  auto elements =
      at::TensorIteratorConfig().add_output(bytes).resize_outputs(false).check_all_same_dtype(false).build();
  const auto part = [&](char** data, const std::int64_t*, std::int64_t count, std::int64_t times) {
    const std::int64_t first = data[0] - start;
    work(first, first + count * times);
  };
  elements.for_each(at::TensorIteratorBase::loop2d_t(part), std::max<std::int64_t>(at_least, 1));
}

}  // namespace ip2p::detail
