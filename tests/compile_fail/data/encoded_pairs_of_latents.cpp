// The sentence also comes first through the class that uses the codec.
// expect-error: ip2p: PosteriorCodec needs `encode_moments\(Tensor\) const` whose result has tensors `mean` and `logvar`; see docs/reference/concepts.md#posteriorcodec
// expect-lines: 18
// expect-lines-clang: 30
#include <ip2p/data/encoded_pairs.hpp>

namespace encoded_pairs_of_latents {

struct Moments {
  at::Tensor mean, logvar;
};
struct Codec {
#ifdef IP2P_CORRECTED
  Moments encode_moments(const at::Tensor& images) const;
#else
  at::Tensor encode(const at::Tensor& images) const;
#endif
};
struct Pictures {
  std::int64_t size() const;
  ip2p::PairPictures get(std::int64_t i, ip2p::SampleRandom& random) const;
};

ip2p::EditPair use(Pictures& pictures, ip2p::SampleRandom& random) {
  return ip2p::EncodedPairs(pictures, Codec{}).get(0, random);
}

}  // namespace encoded_pairs_of_latents
