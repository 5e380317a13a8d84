#include "ip2p/guidance/no_guidance.hpp"

#include "ip2p/testing/check_guidance.hpp"
#include "support/catch.hpp"

TEST_CASE("NoGuidance keeps the laws of guidance", "[guidance]") {
  ip2p::testing::check_guidance(ip2p::NoGuidance{}, ip2p::NoGuidance{}, {});
}
