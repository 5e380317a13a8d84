// expect-error: ip2p: at_full_size with a mask needs an UpsamplingPolicy that enlarges; see docs/reference/concepts.md#upsamplingpolicy
#include <ip2p/pipeline/full_size.hpp>
#include <ip2p/upsampling/no_upsampling.hpp>

namespace mask_without_enlargement {

struct Pipeline {
  ip2p::RunSettings completed(const ip2p::RunSettings& settings) const { return settings; }
  at::Tensor clean_latents(const at::Tensor& pictures) const { return pictures; }
  at::Tensor decode_to_tensor(const at::Tensor& latents) const { return latents; }
};

ip2p::Image use(const Pipeline& pipeline, const ip2p::Image& photo, const ip2p::Image& mask) {
#ifdef IP2P_CORRECTED
  return ip2p::at_full_size(pipeline, photo, mask, photo);
#else
  return ip2p::at_full_size(pipeline, photo, mask, photo, {}, ip2p::NoUpsampling{});
#endif
}

}  // namespace mask_without_enlargement
