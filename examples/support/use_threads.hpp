#pragma once

/// \file
/// The threads that a program computes with.

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

namespace example {

/// Computes with `threads` threads, but no more than there are processors; if 0, with as many as LibTorch takes by
/// default. Others would only wait for each other: with 256 on one processor, a picture took 30 times as long.
inline void use_threads(int threads) {
  const int processors = static_cast<int>(std::thread::hardware_concurrency());  // 0 if not known
  if (threads > 0) at::set_num_threads(processors > 0 ? std::min(threads, processors) : threads);
}

}  // namespace example
