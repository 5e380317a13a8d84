// expect-error: ip2p: DenoisingNetwork needs `project_time\(Tensor\)`, .*; see docs/reference/concepts.md#denoisingnetwork
// expect-lines: 15
#include <ip2p/unet/concepts.hpp>

namespace network_without_dtype {

struct Linear {
  ip2p::TimeProjections project_time(const at::Tensor& timesteps) const;
  ip2p::ContextProjections project_context(const at::Tensor& context) const;
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const ip2p::TimeProjections& times, const ip2p::ContextProjections& texts,
                        const Attention& attention, const ip2p::Step& step) const;
  std::int64_t in_channels() const;
  at::Device device() const;
#ifdef IP2P_CORRECTED
  at::ScalarType dtype() const;
#endif
};

void use() { ip2p::require_denoising_network<Linear>(); }

}  // namespace network_without_dtype
