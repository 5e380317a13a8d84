// expect-error: ip2p: NoiseSource needs `at::Tensor normal\(at::IntArrayRef shape, std::int64_t draw\)`; see docs/reference/concepts.md#noisesource
// expect-lines: 15
#include <ip2p/core/random.hpp>

namespace noise_source_without_draw {

struct White {
#ifdef IP2P_CORRECTED
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw);
#else
  at::Tensor normal(at::IntArrayRef shape);
#endif
};

void use() { ip2p::require_noise_source<White>(); }

}  // namespace noise_source_without_draw
