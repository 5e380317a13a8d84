// What is said about sources of pictures and codecs for pairs that lack something.
// expect-each: ip2p: PosteriorCodec needs `encode_moments\(Tensor\) const` .*; see docs/reference/concepts.md#posteriorcodec
// expect-each: ip2p: PictureSource needs `std::int64_t size\(\)` and `PairPictures get\(.*; see docs/reference/concepts.md#picturesource
// expect-each: ip2p: NamedPictureSource needs `PairChoice choose\(std::int64_t i, SampleRandom&\)`, .*; see docs/reference/concepts.md#namedpicturesource
// expect-lines: 45
// expect-lines-clang: 40
#include <ip2p/data/encoded_pairs.hpp>

#include "../lacking.hpp"

namespace pictures {

struct Moments {
  at::Tensor mean, logvar;
};
struct Codec {
  LACKING(Moments encode_moments(const at::Tensor& images) const;)
  at::Tensor encode(const at::Tensor& images) const;
};
struct Pictures {
  std::int64_t size();
  LACKING(ip2p::PairPictures get(std::int64_t i, ip2p::SampleRandom& random);)
};
struct Unnamed {
  std::int64_t size();
  ip2p::PairPictures get(std::int64_t i, ip2p::SampleRandom& random);
  LACKING(ip2p::PairChoice choose(std::int64_t i, ip2p::SampleRandom& random);)
  std::string id(const ip2p::PairChoice& choice);
  ip2p::PairPictures read(const ip2p::PairChoice& choice);
};

void use() {
  ip2p::require_posterior_codec<Codec>();
  ip2p::require_picture_source<Pictures>();
  ip2p::require_named_picture_source<Unnamed>();
}

}  // namespace pictures
