// What an editor says about a text encoder that cannot encode.
// expect-error: ip2p: TextEncoder needs `Tensor encode\(std::span<const std::string>\) const`
// expect-lines: 40
// expect-lines-clang: 50
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/archetypes.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include "../lacking.hpp"

namespace encoder_of_nothing {

struct Encoder {
  LACKING(at::Tensor encode(std::span<const std::string> prompts) const;)
};

using namespace ip2p::testing;

void use() {
  ip2p::EditPipeline edit{Encoder{}, CodecArchetype(2), NetworkArchetype(6, 3),
                          ip2p::Diffusion{ScheduleArchetype(10.0), ip2p::EpsPrediction{}}};
  (void)sizeof(edit);
}

}  // namespace encoder_of_nothing
