#pragma once

/// \file
/// The index of pair shards: the tar files, their contents and offsets.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/seed_list.hpp"
#include "ip2p/data/ustar.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/json_whole.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

namespace detail {

inline constexpr const char* shard_index_name = "shards.json";

/// Suffixes of a pair's three tar entries, `{prompt}_{seed}.before.jpg` and so on, in this order.
inline constexpr std::array<const char*, 3> shard_parts{"before.jpg", "after.jpg", "json"};

/// Offset, sizes and checksums of one pair's entries.
struct ShardPair {
  std::string prompt, seed;
  std::uint64_t offset = 0;  ///< Of the first header; the entries are contiguous.
  std::array<std::uint64_t, 3> sizes{};
  std::array<std::uint32_t, 3> checksums{};

  [[nodiscard]] std::string entry(std::size_t part) const {
    return fmt::format("{}_{}.{}", prompt, seed, shard_parts[part]);
  }
  /// Total bytes, including headers and padding.
  [[nodiscard]] std::uint64_t span() const {
    return 3 * tar_block + tar_padded(sizes[0]) + tar_padded(sizes[1]) + tar_padded(sizes[2]);
  }
};

/// Index entry of one shard.
struct ShardInfo {
  std::string name;  ///< Of the tar file, beside the index.
  std::uint64_t bytes = 0;
  std::uint32_t checksum = 0;       ///< CRC-32 of the whole file.
  std::int64_t first = 0, end = 0;  ///< Range of source pairs that it covers, skipped ones included.
  std::vector<ShardPair> pairs;
  std::vector<SkippedPair> skipped;
};

inline nlohmann::json shard_json(const ShardInfo& shard) {
  auto json = nlohmann::json{{"name", shard.name},   {"count", shard.pairs.size()},
                             {"bytes", shard.bytes}, {"crc32", fmt::format("{:08x}", shard.checksum)},
                             {"first", shard.first}, {"end", shard.end}};
  auto& pairs = json["pairs"] = nlohmann::json::array();
  for (const auto& pair : shard.pairs) pairs.push_back({pair.prompt, pair.seed, pair.sizes, pair.checksums});
  auto& skipped = json["skipped"] = nlohmann::json::array();
  for (const auto& pair : shard.skipped) skipped.push_back({{"path", pair.path}, {"reason", pair.reason}});
  return json;
}

/// \throws Error or nlohmann's exception for anything that `shard_json` cannot have written
inline ShardInfo shard_from_json(const nlohmann::json& json, const std::string& where) {
  ShardInfo shard;
  shard.name = json.at("name").get<std::string>();
  require(!shard.name.empty() && std::filesystem::path(shard.name).filename() == shard.name && shard.name != "..",
          "{}: expected the name of a file beside the index, found '{}'", where, printable(shard.name));
  shard.bytes = json_whole<std::uint64_t>(json.at("bytes"));
  shard.checksum = static_cast<std::uint32_t>(std::stoul(json.at("crc32").get<std::string>(), nullptr, 16));
  shard.first = json_whole<std::int64_t>(json.at("first"));
  shard.end = json_whole<std::int64_t>(json.at("end"));
  std::uint64_t offset = 0;
  for (const auto& entry : json.at("pairs")) {
    ShardPair pair{entry.at(0).get<std::string>(), entry.at(1).get<std::string>(), offset,
                   json_wholes<std::array<std::uint64_t, 3>>(entry.at(2)),
                   json_wholes<std::array<std::uint32_t, 3>>(entry.at(3))};
    if (!is_pair_name(pair.prompt) || !is_pair_name(pair.seed)) {
      throw_error("{}: {}: expected names of letters and digits, found '{}' and '{}'", where, shard.name,
                  printable(pair.prompt), printable(pair.seed));
    }
    for (const auto size : pair.sizes) {
      require(size < (std::uint64_t{1} << 33), "{}: {}: expected entries below 8 GiB, found {}", where, shard.name,
              size);
    }
    offset += pair.span();
    shard.pairs.push_back(std::move(pair));
  }
  const auto count = json_whole<std::size_t>(json.at("count"));
  require(shard.pairs.size() == count && shard.bytes == offset + tar_end,
          "{}: {}: expected {} pairs in {} bytes, found {} in {}", where, shard.name, count, shard.bytes,
          shard.pairs.size(), offset + tar_end);
  for (const auto& entry : json.at("skipped")) {
    shard.skipped.push_back({entry.at("path").get<std::string>(), entry.at("reason").get<std::string>()});
  }
  return shard;
}

/// Parses `path` and passes the JSON to `use`; any problem becomes an `Error` that names the file.
template <class Use>
auto with_json_file(const std::filesystem::path& path, Use&& use) {
  const auto text = file_text(path);
  require(text.has_value(), "cannot open '{}'", path.string());
  try {
    return use(parse_json(*text));
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: is not an index of pair shards: found {}", path.string(), detail::json_fault(error));
  } catch (const std::logic_error& error) {  // from std::stoul
    throw_error("{}: is not an index of pair shards: crc32: {}", path.string(), error.what());
  }
}

/// The index of a finished conversion, with a description of its source.
struct ShardIndex {
  std::string source;
  std::vector<ShardInfo> shards;

  static ShardIndex read(const std::filesystem::path& path) {
    return with_json_file(path, [&](const nlohmann::json& json) {
      require(json.at("format") == "ip2p pair shards" && json.at("version") == 1,
              "{}: expected pair shards of version 1, found {} of version {}", path.string(), json.at("format").dump(),
              json.at("version").dump());
      ShardIndex index{json.at("source").get<std::string>(), {}};
      for (const auto& shard : json.at("shards")) index.shards.push_back(shard_from_json(shard, path.string()));
      return index;
    });
  }
};

}  // namespace detail

}  // namespace ip2p
