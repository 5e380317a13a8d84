#pragma once

/// \file
/// A training set in a few large tar files with random access to every pair, also readable by WebDataset.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/shard_index.hpp"
#include "ip2p/data/ustar.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/safetensors.hpp"

namespace ip2p {

/// A folder made by `write_pair_shards`. Satisfies `NamedPictureSource`. The same random numbers select the same pair
/// as in the `PairFolder` that it was made from, provided nothing there was damaged.
///
/// Reads only the bytes of the requested pair and verifies them. Damage is an `Error` naming shard and entry, because a
/// copy can be made again. A value; copies share the open files.
class PairShards {
 public:
  /// \throws Error without an index, or when a shard is missing or its length differs from the index
  static PairShards open(const std::filesystem::path& path) {
    const auto index = path / detail::shard_index_name;
    std::error_code ignored;
    require(std::filesystem::exists(index, ignored),
            "pair shards '{}': expected {}, which a finished conversion leaves beside its shards, found none",
            path.string(), detail::shard_index_name);
    PairShards shards;
    auto infos = detail::ShardIndex::read(index).shards;
    for (auto& info : infos) {
      auto file = std::make_shared<const detail::OpenedFile>(path / info.name);
      const auto lost = std::find_if(info.pairs.begin(), info.pairs.end(), [&](const detail::ShardPair& pair) {
        return pair.offset + pair.span() > file->size();
      });
      if (lost != info.pairs.end()) {
        throw_error("{}: is truncated: entry '{}' ends at byte {}, the file at {}", file->name(), lost->entry(2),
                    lost->offset + lost->span(), file->size());
      }
      require(file->size() == info.bytes, "{}: expected {} bytes, found {}", file->name(), info.bytes, file->size());
      for (auto& pair : info.pairs) {
        if (shards.prompts_.empty() || shards.prompts_.back().name != pair.prompt) {
          shards.prompts_.push_back({pair.prompt, shards.places_.size(), 0});
        }
        ++shards.prompts_.back().count;
        shards.places_.push_back({file, std::move(pair)});
      }
    }
    return shards;
  }

  /// Number of prompts.
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(prompts_.size()); }

  /// Number of pairs over all prompts.
  [[nodiscard]] std::int64_t pairs() const { return static_cast<std::int64_t>(places_.size()); }

  /// Draws one number. \param i from 0 to size() - 1
  [[nodiscard]] PairChoice choose(std::int64_t i, SampleRandom& random) const {
    require(i >= 0 && i < size(), "pair shards: expected a prompt below {}, found {}", size(), i);
    return {i, random.uniform()};
  }

  /// "prompt/seed".
  [[nodiscard]] std::string id(const PairChoice& choice) const {
    const auto& pair = places_[place(choice)].pair;
    return pair.prompt + "/" + pair.seed;
  }

  /// The pictures and words of a choice. \throws Error as `files`, and for damaged pictures
  [[nodiscard]] PairPictures read(const PairChoice& choice) const {
    return decode_pair(files(static_cast<std::int64_t>(place(choice))));
  }
  /// A pair of prompt `i`, drawn. \throws Error as `read`
  [[nodiscard]] PairPictures get(std::int64_t i, SampleRandom& random) const { return read(choose(i, random)); }

  /// The n-th pair as stored, verified. \param n from 0 to pairs() - 1
  /// \throws Error naming shard and entry when a header or checksum differs
  [[nodiscard]] PairFiles files(std::int64_t n) const {
    require(n >= 0 && n < pairs(), "pair shards: expected a pair below {}, found {}", pairs(), n);
    const auto& [file, pair] = places_[static_cast<std::size_t>(n)];
    std::vector<std::byte> bytes(static_cast<std::size_t>(pair.span()));
    file->read(bytes, pair.offset);
    std::array<std::vector<std::byte>, 3> contents;
    std::size_t position = 0;
    for (std::size_t part = 0; part < 3; ++part) {
      const auto size = static_cast<std::size_t>(pair.sizes[part]);
      const auto header = detail::tar_header(pair.entry(part), pair.sizes[part]);
      require(std::memcmp(bytes.data() + position, header.data(), header.size()) == 0,
              "{}: entry '{}': expected its header at byte {}, found other bytes", file->name(), pair.entry(part),
              pair.offset + position);
      const auto content = std::span(bytes).subspan(position + header.size(), size);
      const auto found = detail::crc32(content);
      require(found == pair.checksums[part], "{}: entry '{}': expected checksum {:08x}, found {:08x}", file->name(),
              pair.entry(part), pair.checksums[part], found);
      contents[part].assign(content.begin(), content.end());
      position += header.size() + static_cast<std::size_t>(detail::tar_padded(size));
    }
    const auto name = [&, &file = file, &pair = pair](std::size_t part) {
      return file->name() + ": " + pair.entry(part);
    };
    const std::string_view text(reinterpret_cast<const char*>(contents[2].data()), contents[2].size());
    return {{name(0), std::move(contents[0])},
            {name(1), std::move(contents[1])},
            parse_pair_words(text, name(2)),
            pair.prompt + "/" + pair.seed};
  }

 private:
  struct Place {
    std::shared_ptr<const detail::OpenedFile> file;
    detail::ShardPair pair;
  };
  struct Prompt {
    std::string name;
    std::size_t first, count;
  };

  PairShards() = default;

  [[nodiscard]] std::size_t place(const PairChoice& choice) const {
    const auto& prompt = prompts_.at(static_cast<std::size_t>(choice.prompt));
    return prompt.first + choice.of(prompt.count);
  }

  std::vector<Place> places_;
  std::vector<Prompt> prompts_;
};
static_assert(NamedPictureSource<const PairShards>);

}  // namespace ip2p
