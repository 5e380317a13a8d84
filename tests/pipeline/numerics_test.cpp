#include "ip2p/pipeline/numerics.hpp"

#include <ATen/ops/empty.h>

#include <cstdint>
#include <new>
#include <stdexcept>

#include "support/catch.hpp"

using namespace ip2p;

TEST_CASE("Running out of memory is an error of its own that says what takes less", "[pipeline]") {
  CHECK_THROWS_AS(with_memory_advice([] { throw std::bad_alloc(); }), OutOfMemory);
#ifndef __SANITIZE_ADDRESS__  // the sanitizer ends the process instead
  const auto too_much = [] { return at::empty({std::int64_t{1} << 60}, at::kByte); };
  CHECK_THROWS_AS(with_memory_advice(too_much), OutOfMemory);
  CHECK_THROWS_WITH(with_memory_advice(too_much), Catch::Contains("use a smaller resolution"));
#endif
  bool other = false;
  try {
    with_memory_advice([] { require(false, "cannot allocate memory for a sentence"); });
  } catch (const OutOfMemory&) {
  } catch (const Error&) {
    other = true;
  }
  CHECK(other);
  CHECK_THROWS_AS(with_memory_advice([] { throw std::logic_error("x"); }), std::logic_error);
  CHECK(with_memory_advice([] { return 3; }) == 3);
}
