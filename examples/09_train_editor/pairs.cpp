#include "pairs.hpp"

namespace train_editor {

Pairs::Pairs(const ip2p::AnyPicturePairs& pictures, const ip2p::AnyCodec& codec, const std::string& codec_checksum,
             const Options& o)
    : size_(pictures.size()) {
  if (o.cache.empty()) {
    encoded_ = std::make_unique<Encoded>(pictures, codec, o.augmentation);
  } else {
    const ip2p::CachedPairsOptions options{.folder = o.cache / "latents",
                                           .codec = codec_checksum,
                                           .crop = o.augmentation.crop,
                                           .mirror = o.augmentation.mirror};
    cached_ = std::make_unique<Cached>(pictures, codec, options);
  }
}

Pairs::~Pairs() = default;

ip2p::EditPair Pairs::get(std::int64_t i, ip2p::SampleRandom& random) const {
  return cached_ ? cached_->get(i, random) : encoded_->get(i, random);
}

std::vector<ip2p::EditPair> Pairs::get_all(std::span<const std::int64_t> prompts,
                                           std::span<ip2p::SampleRandom> random) const {
  return cached_ ? ip2p::detail::pairs_of(*cached_, prompts, random) : encoded_->get_all(prompts, random);
}

}  // namespace train_editor
