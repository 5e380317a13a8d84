// expect-error: ip2p: ImageCodec needs `encode\(Tensor\)`, .*; see docs/reference/concepts.md#imagecodec
// expect-lines: 15
#include <ip2p/codec/concepts.hpp>

namespace codec_without_scaling {

struct HalfSize {
  at::Tensor encode(const at::Tensor& images) const;
  at::Tensor decode(const at::Tensor& latents) const;
  std::int64_t downscale() const { return 2; }
  std::int64_t latent_channels() const { return 12; }
#ifdef IP2P_CORRECTED
  double scaling_factor() const { return 1.0; }
#endif
};

void use() { ip2p::require_image_codec<HalfSize>(); }

}  // namespace codec_without_scaling
