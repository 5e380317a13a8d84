// What an editor says about a sampler that does not sample.
// expect-error: ip2p: SamplerPolicy needs `at::Tensor sample
// expect-lines: 40
// expect-lines-clang: 50
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/archetypes.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include "../lacking.hpp"

namespace sampler_of_nothing {

struct Sampler {
#ifdef IP2P_CORRECTED
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const ip2p::RunHooks& hooks = {}) const {
    return x;
  }
#endif
};

using namespace ip2p::testing;

void use() {
  ip2p::EditPipeline edit{TextEncoderArchetype(4, 16), CodecArchetype(2), NetworkArchetype(6, 3),
                          ip2p::Diffusion{ScheduleArchetype(10.0), ip2p::EpsPrediction{}}, Sampler{}};
  (void)sizeof(edit);
}

}  // namespace sampler_of_nothing
