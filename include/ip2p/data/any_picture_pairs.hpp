#pragma once

/// \file
/// Opens picture pairs from a path, whichever layout it has; meant for a program's command line.

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/pair_shards.hpp"
#include "ip2p/data/picture_pairs.hpp"

namespace ip2p {

/// A `NamedPictureSource`: shards if the path holds their index, otherwise a folder in the published layout. A value;
/// copies share open files.
class AnyPicturePairs {
 public:
  /// An open folder in the published layout.
  AnyPicturePairs(PairFolder folder) : set_(std::move(folder)) {}  // NOLINT(google-explicit-constructor)
  /// An open set of shards.
  AnyPicturePairs(PairShards shards) : set_(std::move(shards)) {}  // NOLINT(google-explicit-constructor)

  /// \param options for a folder; shards already hold a single split, chosen when they were made
  /// \throws Error when the path holds neither; see `PairFolder::open` and `PairShards::open`
  static AnyPicturePairs open(const std::filesystem::path& path, const PairFolderOptions& options = {}) {
    std::error_code ignored;
    if (std::filesystem::exists(path / detail::shard_index_name, ignored)) return PairShards::open(path);
    return PairFolder::open(path, options);
  }

  /// Number of prompts.
  [[nodiscard]] std::int64_t size() const {
    return std::visit([](const auto& set) { return set.size(); }, set_);
  }
  /// Draws one number. \param i from 0 to size() - 1
  [[nodiscard]] PairChoice choose(std::int64_t i, SampleRandom& random) const {
    return std::visit([&](const auto& set) { return set.choose(i, random); }, set_);
  }
  /// "prompt/seed".
  [[nodiscard]] std::string id(const PairChoice& choice) const {
    return std::visit([&](const auto& set) { return set.id(choice); }, set_);
  }
  /// The pictures and words of a choice. \throws Error as the set that is held
  [[nodiscard]] PairPictures read(const PairChoice& choice) const {
    return std::visit([&](const auto& set) { return set.read(choice); }, set_);
  }
  /// A pair of prompt `i`, drawn. \throws Error as the set that is held
  [[nodiscard]] PairPictures get(std::int64_t i, SampleRandom& random) const { return read(choose(i, random)); }

  /// Whether the path held shards.
  [[nodiscard]] bool in_shards() const { return std::holds_alternative<PairShards>(set_); }

  /// Damaged pairs of a folder that were skipped so far; in shards, damage is an error instead.
  [[nodiscard]] std::vector<SkippedPair> damage() const {
    const auto* folder = std::get_if<PairFolder>(&set_);
    return folder == nullptr ? std::vector<SkippedPair>() : folder->damage();
  }

 private:
  std::variant<PairFolder, PairShards> set_;
};
static_assert(NamedPictureSource<const AnyPicturePairs>);

}  // namespace ip2p
