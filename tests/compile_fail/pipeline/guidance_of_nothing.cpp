// What an editor says about a guidance that does not combine.
// expect-error: ip2p: GuidancePolicy needs `Tensor combine
// expect-lines: 40
// expect-lines-clang: 50
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/archetypes.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include "../lacking.hpp"

namespace guidance_of_nothing {

struct Guidance {
  static constexpr auto branches = ip2p::DualGuidance::branches;
  LACKING(at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;)
};

using namespace ip2p::testing;

void use() {
  ip2p::EditPipeline edit{TextEncoderArchetype(4, 16), CodecArchetype(2),
                          NetworkArchetype(6, 3),      ip2p::Diffusion{ScheduleArchetype(10.0), ip2p::EpsPrediction{}},
                          SamplerArchetype(0),         Guidance{}};
  (void)sizeof(edit);
}

}  // namespace guidance_of_nothing
