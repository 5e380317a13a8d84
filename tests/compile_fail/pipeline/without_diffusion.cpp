// What a pipeline says if it is given no noise schedule and prediction, or a sampler in their place.
// expect-error: ip2p: a pipeline needs, after its network, what the model was trained with: `ip2p::diffusion_of\(files\)`
// expect-lines: 30
// expect-lines-clang: 40
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include <ip2p/testing/archetypes.hpp>

namespace without_diffusion {

void use(const ip2p::Image& photo) {
  const ip2p::testing::TextEncoderArchetype encoder(4, 16);
  const ip2p::testing::CodecArchetype codec(2);
  const ip2p::testing::NetworkArchetype network(6, 3);
#ifdef IP2P_CORRECTED
  ip2p::EditPipeline edit{encoder, codec, network,
                          ip2p::Diffusion{ip2p::testing::ScheduleArchetype(10.0), ip2p::EpsPrediction{}}};
#else
  ip2p::EditPipeline edit{encoder, codec, network};
#endif
  (void)sizeof(edit);
}

}  // namespace without_diffusion
