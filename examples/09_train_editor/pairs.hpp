#pragma once

/// \file
/// Where the pairs come from: a folder or shards, encoded each time or once.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/data/cached_pairs.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/pair_shards.hpp"
#include "options.hpp"

namespace train_editor {

/// A `NamedPictureSource`: the published layout, or shards where the folder holds an index of them.
class Pictures {
 public:
  Pictures(const std::filesystem::path& path, ip2p::PairSplit split, bool scan) : set_(open(path, split, scan)) {}

  [[nodiscard]] std::int64_t size() const {
    return std::visit([](const auto& set) { return set.size(); }, set_);
  }
  [[nodiscard]] ip2p::PairChoice choose(std::int64_t i, ip2p::SampleRandom& random) const {
    return std::visit([&](const auto& set) { return set.choose(i, random); }, set_);
  }
  [[nodiscard]] std::string id(const ip2p::PairChoice& choice) const {
    return std::visit([&](const auto& set) { return set.id(choice); }, set_);
  }
  [[nodiscard]] ip2p::PairPictures read(const ip2p::PairChoice& choice) const {
    return std::visit([&](const auto& set) { return set.read(choice); }, set_);
  }
  [[nodiscard]] ip2p::PairPictures get(std::int64_t i, ip2p::SampleRandom& random) const {
    return read(choose(i, random));
  }

  /// What was damaged and passed over so far; damage in a shard is an error instead.
  [[nodiscard]] std::vector<ip2p::SkippedPair> damage() const {
    const auto* folder = std::get_if<ip2p::PairFolder>(&set_);
    return folder == nullptr ? std::vector<ip2p::SkippedPair>() : folder->damage();
  }

 private:
  using Set = std::variant<ip2p::PairFolder, ip2p::PairShards>;

  static Set open(const std::filesystem::path& path, ip2p::PairSplit split, bool scan) {
    if (std::filesystem::exists(path / "shards.json")) return ip2p::PairShards::open(path);
    return ip2p::PairFolder::open(path, {.split = split, .scan = scan});
  }

  Set set_;
};
static_assert(ip2p::NamedPictureSource<const Pictures>);

/// A `PairSource` over `Pictures`, with or without --cache.
class Pairs {
 public:
  /// \param pictures kept by reference  \param codec_checksum names the codec in the cache
  Pairs(const Pictures& pictures, const ip2p::KlAutoencoder& codec, const std::string& codec_checksum, const Options& o)
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

  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random) const {
    return cached_ ? cached_->get(i, random) : encoded_->get(i, random);
  }

 private:
  using Encoded = ip2p::EncodedPairs<const Pictures, ip2p::KlAutoencoder>;
  using Cached = ip2p::CachedPairs<const Pictures, ip2p::KlAutoencoder>;

  std::int64_t size_;
  std::unique_ptr<Encoded> encoded_;
  std::unique_ptr<Cached> cached_;
};
static_assert(ip2p::PairSource<Pairs>);

}  // namespace train_editor
