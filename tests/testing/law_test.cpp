#include "ip2p/testing/law.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <stdexcept>

#include "support/catch.hpp"

using namespace ip2p;
using namespace ip2p::testing;

TEST_CASE("A broken law says what was expected and found, and where", "[testing]") {
  const auto expected = at::zeros({2, 3});
  auto found = at::zeros({2, 3});
  found[1][0] = 0.25;
  found[1][2] = -0.5;
  CHECK_THROWS_WITH(
      expect_close(found, expected, 1e-3, "Role", "they agree", "case 4"),
      "Role breaks the law \"they agree\": case 4: expected 0, found -0.5 at [1, 2], where the difference "
      "of 0.5 is largest");
  CHECK_NOTHROW(expect_close(found, expected, 1.0, "Role", "they agree"));
  CHECK_THROWS_WITH(expect_same_bits(found, expected, "Role", "they agree"),
                    Contains("law \"they agree\": expected 0, found -0.5 at [1, 2]"));
  CHECK_NOTHROW(expect_same_bits(found, found.clone(), "Role", "they agree"));
  found[0][1] = std::nan("");
  CHECK_THROWS_WITH(expect_close(found, expected, 1.0, "Role", "they agree"), Contains("found nan at [0, 1]"));
  CHECK_THROWS_WITH(expect_finite(found, "Role", "finite", "case 5"),
                    "Role breaks the law \"finite\": case 5: 1 NaN and 0 infinite values in [2, 3] of Float");

  CHECK_THROWS_WITH(expect_close(at::zeros({3}), expected, 1.0, "Role", "they agree"),
                    Contains("expected [2, 3] of Float, found [3] of Float"));
  CHECK_THROWS_WITH(expect_close(expected.to(at::kDouble), expected, 1.0, "Role", "they agree"),
                    Contains("expected [2, 3] of Float, found [2, 3] of Double"));
  CHECK_THROWS_WITH(expect_same_bits(at::Tensor(), expected, "Role", "they agree"), Contains("found no tensor"));
  // Scalars have no index.
  CHECK_THROWS_WITH(expect_close(at::ones({}), at::full({}, 2.5), 1e-3, "Role", "they agree"),
                    Contains("expected 2.5, found 1 at []"));
}

TEST_CASE("An exception of another type than expected is shown", "[testing]") {
  CHECK_NOTHROW(expect_throws([] { throw_error("x"); }, "Role", "wrong input is refused", "input 3"));
  CHECK_THROWS_WITH(expect_throws([] {}, "Role", "wrong input is refused", "input 3"),
                    "Role breaks the law \"wrong input is refused\": input 3 was accepted");
  CHECK_THROWS_WITH(expect_throws([] { throw std::out_of_range("y"); }, "Role", "wrong input is refused", "input 3"),
                    Contains("input 3 gave another exception than expected: y"));
  CHECK_THROWS_WITH(expect_throws<Cancelled>([] { throw_error("z"); }, "Role", "a stop is heard", "a stop"),
                    Contains("a stop gave another exception than expected: z"));
}
