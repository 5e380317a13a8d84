// expect-error: ip2p: SamplerPolicy needs `at::Tensor sample\(auto&& denoiser, at::Tensor x, std::span<const double> sigmas, auto& rng, const RunHooks& hooks\) const`; see docs/reference/concepts.md#samplerpolicy
// expect-lines: 15
#include "ip2p/sampling/concepts.hpp"

struct Mine {
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&&, at::Tensor x, std::span<const double>, Noise&, const ip2p::RunHooks&)
#ifdef IP2P_CORRECTED
      const
#endif
  {
    return x;
  }
};

void use() { ip2p::require_sampler_policy<Mine>(); }
