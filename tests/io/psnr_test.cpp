#include "ip2p/io/psnr.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

TEST_CASE("PSNR is 10 log10(255^2 / mean squared difference)", "[io]") {
  const ip2p::Image a{2, 1, {10, 20, 30, 40, 50, 60}};
  auto b = a;
  b.pixels = {13, 20, 30, 36, 50, 60};  // differences 3 and 4: mean square 25 / 6
  CHECK(ip2p::psnr(a, b) == Approx(10.0 * std::log10(255.0 * 255.0 * 6.0 / 25.0)));
  CHECK(ip2p::psnr(b, a) == ip2p::psnr(a, b));
  CHECK(ip2p::psnr(a, a) == std::numeric_limits<double>::infinity());
  CHECK(ip2p::psnr({1, 1, {0, 0, 0}}, {1, 1, {255, 255, 255}}) == Approx(0.0).margin(1e-12));
  CHECK_THROWS_WITH(ip2p::psnr(a, ip2p::Image{1, 2, a.pixels}),
                    "psnr: expected pictures of one size, found 2x1 and 1x2");
}
