#pragma once

/// \file
/// Training pairs from pictures that are encoded once and kept on disk.

#include <ATen/ops/stack.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/data/augment.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/shard_index.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/io/write_safetensors.hpp"

namespace ip2p {

namespace detail {

inline std::uint32_t tensor_crc32(const at::Tensor& tensor, std::uint32_t start) {
  const auto dense = tensor.detach().cpu().contiguous();
  return crc32({static_cast<const std::byte*>(dense.const_data_ptr()), static_cast<std::size_t>(dense.nbytes())},
               start);
}

}  // namespace detail

/// A fingerprint of the weights: differs when their names, shapes or values do.
inline std::string weights_checksum(const Weights& weights) {
  std::uint32_t checksum = 0;
  for (const auto& [name, entry] : weights) {
    const auto title = fmt::format("{} {} {}\n", name, shape_text(entry.shape), c10::toString(entry.dtype));
    checksum = detail::tensor_crc32(entry.read(), detail::crc32(std::as_bytes(std::span(title)), checksum));
  }
  return fmt::format("{:08x}-{}", checksum, element_count(weights));
}

/// Settings of `CachedPairs`.
struct CachedPairsOptions {
  std::filesystem::path folder{};  ///< Created if missing. One file per pair: `{folder}/{id}.safetensors`.
  std::string codec{};             ///< Identifies the codec: `weights_checksum` of its weights.
  std::int64_t crop = 256;         ///< Side of the centre crop, to which the shorter side is resized.
  double mirror = 0.5;             ///< Probability of returning a pair mirrored.
};

/// A `PairSource` that reads cached latents and encodes only the pictures that are not cached yet. There is no random
/// size or crop: each pair is its centre crop, plain and mirrored, so epochs after the first need no decoding and no
/// codec.
///
/// An entry is valid if codec, crop and id match and its checksum holds; otherwise it is made again. A pair that
/// replaces a damaged one is not cached. `get` may be called from several threads, and processes may share a folder:
/// the first to write there removes what killed ones left half-written.
template <class Source, class Codec>
class CachedPairs {
  static_assert((require_named_picture_source<Source>(), require_posterior_codec<Codec>(), true));

 public:
  /// \param pictures kept by reference
  CachedPairs(Source& pictures, Codec codec, CachedPairsOptions options)
      : pictures_(&pictures), encode_(std::move(codec)), options_(std::move(options)) {
    require(!options_.folder.empty() && !options_.codec.empty(),
            "cached pairs: expected a folder and the codec's checksum, found '{}' and '{}'", options_.folder.string(),
            options_.codec);
    require(options_.crop >= 1 && options_.mirror >= 0 && options_.mirror <= 1,
            "cached pairs: expected a crop of at least 1 pixel and a share of mirrored pairs, found {} and {}",
            options_.crop, options_.mirror);
  }

  /// Prompts of the picture source.
  [[nodiscard]] std::int64_t size() const { return pictures_->size(); }

  /// Number of entries that this object had to make.
  [[nodiscard]] std::int64_t made() const { return made_; }

  /// Latents of a pair of prompt `i`, drawn. \throws Error as the picture source, the codec and the disk
  [[nodiscard]] EditPair get(std::int64_t i, SampleRandom& random) {
    const PairChoice choice = pictures_->choose(i, random);
    const bool mirrored = random.uniform() < options_.mirror;
    const std::string id = pictures_->id(choice);
    const auto path = path_of(id);
    auto entry = load(path, id);
    if (!entry) {
      const PairPictures pictures = pictures_->read(choice);
      entry = make(pictures);
      ++made_;
      if (pictures.id == id) save(path, id, *entry);
    }
    const auto pick = [&](const char* name) { return entry->tensors.at(name).select(0, mirrored ? 1 : 0); };
    return {pick("target_mean"), pick("target_logvar"), pick("condition"), std::move(entry->instruction)};
  }

 private:
  /// Tensors are [2,C,h,w]: plain, mirrored.
  struct Entry {
    std::map<std::string, at::Tensor> tensors;
    std::string instruction;

    [[nodiscard]] std::string checksum() const {
      auto sum = detail::crc32(std::as_bytes(std::span(instruction)));
      for (const auto& [name, tensor] : tensors) sum = detail::tensor_crc32(tensor, sum);
      return fmt::format("{:08x}", sum);
    }
  };

  [[nodiscard]] std::filesystem::path path_of(const std::string& id) const {
    const std::filesystem::path relative(id + ".safetensors");
    const bool inside = relative.is_relative() &&
                        std::none_of(relative.begin(), relative.end(), [](const auto& p) { return p == ".."; });
    require(inside, "cached pairs: expected an id that can name a file, found '{}'", id);
    return options_.folder / relative;
  }

  [[nodiscard]] std::string key(const std::string& id) const {
    return fmt::format("codec {}, centre crop {}, pair {}", options_.codec, options_.crop, id);
  }

  [[nodiscard]] Entry make(const PairPictures& pictures) const {
    std::array<EditPair, 2> pairs;
    for (std::size_t mirrored = 0; mirrored < 2; ++mirrored) {
      const PreparedPair prepared{centre_crop(pictures.before, options_.crop, mirrored == 1),
                                  centre_crop(pictures.after, options_.crop, mirrored == 1)};
      pairs[mirrored] = encode_(prepared, pictures.instruction);
    }
    const auto both = [&](at::Tensor EditPair::*which) {
      return at::stack({pairs[0].*which, pairs[1].*which}).to(at::kCPU);
    };
    return {{{"target_mean", both(&EditPair::target_mean)},
             {"target_logvar", both(&EditPair::target_logvar)},
             {"condition", both(&EditPair::condition)}},
            pictures.instruction};
  }

  /// Empty if the entry is missing, damaged or from other settings.
  [[nodiscard]] std::optional<Entry> load(const std::filesystem::path& path, const std::string& id) const {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) return {};
    try {
      const auto file = SafetensorsFile::open(path);
      const auto text = [&](const char* name) {
        const auto found = file.metadata().find(name);
        return found == file.metadata().end() ? std::string() : found->second;
      };
      if (text("key") != key(id)) return {};
      Entry entry{{}, text("instruction")};
      for (const char* name : {"target_mean", "target_logvar", "condition"}) {
        entry.tensors.emplace(name, file.tensor(name));
      }
      return entry.checksum() == text("crc32") ? std::optional(std::move(entry)) : std::nullopt;
    } catch (const Error&) {
      return {};
    }
  }

  void save(const std::filesystem::path& path, const std::string& id, const Entry& entry) {
    std::call_once(entered_, [&] {
      make_folder(options_.folder);
      remove_temporaries_below(options_.folder);
    });
    make_folder(path.parent_path());
    write_safetensors(path, entry.tensors,
                      {{"key", key(id)}, {"instruction", entry.instruction}, {"crc32", entry.checksum()}});
  }

  Source* pictures_;
  detail::PairEncoder<Codec> encode_;
  CachedPairsOptions options_;
  std::atomic<std::int64_t> made_ = 0;
  std::once_flag entered_;
};

}  // namespace ip2p
