// A user's own guidance policy, with the static checks that the documentation recommends.
#include <ip2p/guidance/dual_guidance.hpp>

#include <cmath>
#include <numbers>

struct FadingGuidance {
  static constexpr auto branches = ip2p::DualGuidance::branches;
  double image_scale = 1.5, text_scale = 7.5;
  at::Tensor combine(const at::Tensor& stacked, ip2p::Step step) const {
    const double fade = std::cos(step.progress() * std::numbers::pi / 2);
    return ip2p::DualGuidance{image_scale, text_scale * fade}.combine(stacked, step);
  }
};
static_assert(ip2p::GuidancePolicy<FadingGuidance>);

at::Tensor combined(const at::Tensor& stacked, ip2p::Step step) { return FadingGuidance{}.combine(stacked, step); }
