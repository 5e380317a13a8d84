// A guidance of one's own, written without touching the library.
#include <ip2p/guidance/dual_guidance.hpp>

#include <ATen/ops/rand.h>

#include <cmath>
#include <cstdio>
#include <numbers>

struct FadingGuidance {  // the text scale fades to 0
  static constexpr auto branches = ip2p::DualGuidance::branches;
  double image_scale = 1.5, text_scale = 7.5;

  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& at) const {  // [3B,C,h,w] -> [B,C,h,w]
    const double fade = std::cos(at.progress() * std::numbers::pi / 2);
    return ip2p::DualGuidance{image_scale, text_scale * fade}.combine(stacked, at);
  }
};
static_assert(ip2p::GuidancePolicy<FadingGuidance>);

int main() {
  const at::Tensor stacked = at::rand({3 * 2, 4, 3, 5});
  const ip2p::Step first{.index = 0, .count = 10}, last{.index = 9, .count = 10};
  const at::Tensor begun = FadingGuidance{}.combine(stacked, first);
  const at::Tensor ended = FadingGuidance{}.combine(stacked, last);
  if (!begun.equal(ip2p::DualGuidance{}.combine(stacked, first))) return 1;
  if (!ended.allclose(ip2p::DualGuidance{1.5, 0.0}.combine(stacked, last), 1e-5, 1e-5)) return 1;
  std::printf("a custom policy combined %s\n", ip2p::shape_text(begun.sizes()).c_str());
}
