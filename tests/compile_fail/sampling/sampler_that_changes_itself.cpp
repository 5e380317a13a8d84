// expect-error: ip2p: SamplerPolicy needs `at::Tensor sample\(.*\) const`; see docs/reference/concepts.md#samplerpolicy
// expect-lines: 15
#include <ip2p/sampling/concepts.hpp>

namespace sampler_that_changes_itself {

struct Counting {
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const ip2p::RunHooks& hooks = {})
#ifdef IP2P_CORRECTED
      const
#endif
      ;
};

void use() { ip2p::require_sampler_policy<Counting>(); }

}  // namespace sampler_that_changes_itself
