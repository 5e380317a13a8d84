// A decision made at compile time cannot be a member of a value.
// expect-error: ip2p: GuidancePolicy: `over_estimates` needs to be `static constexpr bool`; see docs/reference/concepts.md#guidancepolicy
#include <array>
#include <span>

#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"

namespace over_estimates_of_a_run {

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
#ifdef IP2P_CORRECTED
  static constexpr bool over_estimates = true;
#else
  bool over_estimates = true;
#endif
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
};

void use(const at::Tensor& x) {
  auto network = [](const at::Tensor& y, double, const ip2p::Step&, std::span<const ip2p::Branch>) { return y; };
  auto denoiser = ip2p::guided_denoiser(network, Mine{}, ip2p::LogLinearSigmas{}, ip2p::EpsPrediction{});
  denoiser(x, ip2p::Step{});
}

}  // namespace over_estimates_of_a_run
