// What an editor says about a network that cannot project its timesteps.
// expect-error: ip2p: DenoisingNetwork needs `project_time\(Tensor\)`
// expect-lines: 40
// expect-lines-clang: 50
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/archetypes.hpp>
#include <ip2p/testing/model_archetypes.hpp>

#include "../lacking.hpp"

namespace network_of_nothing {

struct Network {
  LACKING(ip2p::TimeProjections project_time(const at::Tensor& timesteps) const;)
  ip2p::ContextProjections project_context(const at::Tensor& context) const;
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const ip2p::TimeProjections&, const ip2p::ContextProjections&,
                        const Attention&, const ip2p::Step&) const {
    return x;
  }
  std::int64_t in_channels() const;
  at::Device device() const;
  at::ScalarType dtype() const;
};

using namespace ip2p::testing;

void use() {
  ip2p::EditPipeline edit{TextEncoderArchetype(4, 16), CodecArchetype(2), Network{},
                          ip2p::Diffusion{ScheduleArchetype(10.0), ip2p::EpsPrediction{}}};
  (void)sizeof(edit);
}

}  // namespace network_of_nothing
