// What an editor says about a codec without a scaling factor.
// expect-error: ip2p: ImageCodec needs `encode\(Tensor\)`
// expect-lines: 40
// expect-lines-clang: 50
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/archetypes.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include "../lacking.hpp"

namespace codec_of_nothing {

struct Codec {
  at::Tensor encode(const at::Tensor& images) const;
  at::Tensor decode(const at::Tensor& latents) const;
  LACKING(double scaling_factor() const;)
  std::int64_t downscale() const;
  std::int64_t latent_channels() const;
};

using namespace ip2p::testing;

void use() {
  ip2p::EditPipeline edit{TextEncoderArchetype(4, 16), Codec{}, NetworkArchetype(6, 3),
                          ip2p::Diffusion{ScheduleArchetype(10.0), ip2p::EpsPrediction{}}};
  (void)sizeof(edit);
}

}  // namespace codec_of_nothing
