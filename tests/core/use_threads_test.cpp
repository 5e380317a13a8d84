// The threads of the programs' --threads.

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

#include "../../examples/support/use_threads.hpp"
#include "support/catch.hpp"

TEST_CASE("no more threads are used than there are processors") {
  const int before = at::get_num_threads();
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (processors == 0) return;  // not known
  example::use_threads(1024);
  CHECK(at::get_num_threads() == std::min(1024, processors));
  example::use_threads(1);
  CHECK(at::get_num_threads() == 1);
  example::use_threads(0);
  CHECK(at::get_num_threads() == 1);  // as it was
  at::set_num_threads(before);
}
