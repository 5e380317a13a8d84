#pragma once

/// \file
/// Converts the published folder layout to shards.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/shard_index.hpp"
#include "ip2p/data/ustar.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/make_folder.hpp"

namespace ip2p {

/// Settings of `write_pair_shards`.
struct PairShardsOptions {
  std::uint64_t max_bytes = std::uint64_t{1} << 30;  ///< Limit per shard; one with a single pair may be larger.
  std::int64_t max_count = 10'000;                   ///< Limit on pairs per shard.
  bool decode = true;                                ///< Decode every picture to keep only intact pairs.
  std::int64_t largest_damage = 100;                 ///< Pairs that may be skipped before the conversion gives up.
  /// Told after each pair how many are done, of how many.
  std::function<void(std::int64_t done, std::int64_t count)> on_pair = {};
  std::stop_token stop = {};  ///< A requested stop throws `Cancelled`; finished shards are reused next time.
};

/// Result of a conversion.
struct PairShardsReport {
  std::int64_t pairs = 0;              ///< In all shards together.
  std::int64_t written = 0, kept = 0;  ///< Shards written now, and reused from an earlier run.
  std::vector<SkippedPair> skipped;    ///< Pairs left out, and why.
};

namespace detail {

/// State of one conversion; see `write_pair_shards`.
class PairShardsWriter {
 public:
  PairShardsWriter(const PairFolder& folder, std::filesystem::path out, const PairShardsOptions& options)
      : folder_(folder), out_(std::move(out)), options_(options) {
    require(options.max_count >= 1 && options.max_bytes >= 1,
            "pair shards: expected room for at least 1 pair and 1 byte, found max_count {} and max_bytes {}",
            options.max_count, options.max_bytes);
    std::uint32_t names = 0;
    for (const auto& prompt : folder.prompts()) {
      for (const auto& seed : prompt.seeds) {
        const auto id = prompt.prompt + "/" + seed + "\n";
        names = crc32(std::as_bytes(std::span(id)), names);
        pairs_.push_back({&prompt.prompt, &seed});
      }
    }
    require(!pairs_.empty(), "pair shards: expected at least one pair in '{}', found none", folder.path().string());
    source_ = fmt::format("{} pairs, {:08x}, at most {} and {} bytes a shard", pairs_.size(), names, options.max_count,
                          options.max_bytes);
  }

  PairShardsReport run() {
    make_folder(out_);
    remove_temporaries_in(out_);
    read_finished();
    PairShardsReport report;
    std::vector<ShardInfo> shards;
    while (next_ < count()) {
      const auto name = fmt::format("pairs-{:05}.tar", shards.size());
      auto shard = earlier(name, shards.size());
      if (shard) {
        ++report.kept;
        next_ = shard->end;
        skipped_ += static_cast<std::int64_t>(shard->skipped.size());
        if (options_.on_pair) options_.on_pair(next_, count());
      } else {
        shard = write(name);
        if (shard->pairs.empty()) {  // only damaged pairs were left
          require(!shards.empty(), "pair shards: expected a sound pair in '{}', found none; the first: {}",
                  folder_.path().string(), shard->skipped.front().reason);
          shards.back().end = shard->end;
          std::move(shard->skipped.begin(), shard->skipped.end(), std::back_inserter(shards.back().skipped));
          break;
        }
        ++report.written;
      }
      shards.push_back(std::move(*shard));
    }
    finish(shards);
    for (auto& shard : shards) {
      report.pairs += static_cast<std::int64_t>(shard.pairs.size());
      std::move(shard.skipped.begin(), shard.skipped.end(), std::back_inserter(report.skipped));
    }
    return report;
  }

 private:
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(pairs_.size()); }
  [[nodiscard]] std::filesystem::path note_of(const std::string& name) const { return out_ / (name + ".json"); }

  void require_same(const std::string& found, const std::filesystem::path& where) const {
    require(found == source_,
            "{}: belongs to another conversion: expected '{}', found '{}'; convert into an empty folder",
            where.string(), source_, found);
  }

  void read_finished() {
    const auto path = out_ / shard_index_name;
    if (!std::filesystem::exists(path)) return;
    auto index = ShardIndex::read(path);
    require_same(index.source, path);
    finished_ = std::move(index.shards);
  }

  /// The shard with that name and number from an earlier run, if it is complete and begins with pair `next_`.
  [[nodiscard]] std::optional<ShardInfo> earlier(const std::string& name, std::size_t number) const {
    std::optional<ShardInfo> shard;
    if (number < finished_.size()) {
      shard = finished_[number];
    } else if (const auto note = note_of(name); std::filesystem::exists(note)) {
      shard = with_json_file(note, [&](const nlohmann::json& json) {
        require_same(json.at("source").get<std::string>(), note);
        return shard_from_json(json, note.string());
      });
    }
    if (!shard || shard->name != name || shard->first != next_ || shard->end <= next_ || shard->end > count())
      return {};
    std::ifstream file(out_ / name, std::ios::binary);
    std::vector<std::byte> part(std::size_t{1} << 20);
    std::uint32_t checksum = 0;
    std::uint64_t bytes = 0;
    while (file) {
      file.read(reinterpret_cast<char*>(part.data()), static_cast<std::streamsize>(part.size()));
      const auto got = static_cast<std::size_t>(file.gcount());
      checksum = crc32(std::span(part).first(got), checksum);
      bytes += got;
    }
    return bytes == shard->bytes && checksum == shard->checksum ? shard : std::nullopt;
  }

  /// The tar entries of one pair, including headers and padding.
  [[nodiscard]] static std::vector<std::byte> entries(const PairFiles& files, ShardPair& pair) {
    auto json = pair_words_json(files.words);
    json["prompt"] = pair.prompt;
    json["seed"] = pair.seed;
    const auto text = json.dump();
    const std::array<std::span<const std::byte>, 3> contents{files.before.bytes, files.after.bytes,
                                                             std::as_bytes(std::span(text))};
    std::vector<std::byte> bytes;
    for (std::size_t part = 0; part < 3; ++part) {
      pair.sizes[part] = contents[part].size();
      pair.checksums[part] = crc32(contents[part]);
      const auto header = tar_header(pair.entry(part), contents[part].size());
      const auto head = std::as_bytes(std::span(header));
      bytes.insert(bytes.end(), head.begin(), head.end());
      bytes.insert(bytes.end(), contents[part].begin(), contents[part].end());
      bytes.resize(static_cast<std::size_t>(tar_padded(bytes.size())));
    }
    return bytes;
  }

  /// Writes as many pairs from `next_` on as fit into one shard.
  ShardInfo write(const std::string& name) {
    ShardInfo shard{.name = name, .bytes = 0, .checksum = 0, .first = next_, .end = next_, .pairs = {}, .skipped = {}};
    AtomicFile file(out_ / name);
    const auto append = [&](std::span<const std::byte> bytes) {
      file.write(bytes);
      shard.checksum = crc32(bytes, shard.checksum);
      shard.bytes += bytes.size();
    };
    for (; next_ < count() && static_cast<std::int64_t>(shard.pairs.size()) < options_.max_count; ++next_) {
      if (options_.stop.stop_requested()) {
        throw Cancelled(fmt::format("cancelled before pair {} of {}", next_ + 1, count()));
      }
      const auto [prompt, seed] = pairs_[static_cast<std::size_t>(next_)];
      ShardPair pair{*prompt, *seed, shard.bytes, {}, {}};
      std::vector<std::byte> bytes;
      try {
        const auto files = folder_.files(*prompt, *seed);
        if (options_.decode) static_cast<void>(decode_pair(files));
        bytes = entries(files, pair);
      } catch (const Error& error) {
        shard.skipped.push_back({(folder_.path() / *prompt / *seed).string(), error.what()});
        ++skipped_;
        require(skipped_ <= options_.largest_damage,
                "pair shards: expected at most {} damaged pairs, found {}, the last: {}", options_.largest_damage,
                skipped_, error.what());
        bytes.clear();
      }
      if (!bytes.empty()) {
        if (!shard.pairs.empty() && shard.bytes + bytes.size() + tar_end > options_.max_bytes) break;
        append(bytes);
        shard.pairs.push_back(std::move(pair));
      }
      if (options_.on_pair) options_.on_pair(next_ + 1, count());
    }
    shard.end = next_;
    if (shard.pairs.empty()) return shard;
    append(std::vector<std::byte>(tar_end));
    file.commit();
    auto note = shard_json(shard);
    note["source"] = source_;
    write_json(note_of(name), note);
    return shard;
  }

  static void write_json(const std::filesystem::path& path, const nlohmann::json& json) {
    // A reason may quote bytes that are not UTF-8.
    const auto text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    write_file_atomically(path, std::as_bytes(std::span(text)));
  }

  /// Writes the index of all shards and removes the per-shard notes.
  void finish(const std::vector<ShardInfo>& shards) const {
    nlohmann::json index{{"format", "ip2p pair shards"}, {"version", 1}, {"source", source_}};
    auto& list = index["shards"] = nlohmann::json::array();
    for (const auto& shard : shards) list.push_back(shard_json(shard));
    write_json(out_ / shard_index_name, index);
    std::error_code ignored;
    for (const auto& shard : shards) std::filesystem::remove(note_of(shard.name), ignored);
  }

  const PairFolder& folder_;
  std::filesystem::path out_;
  const PairShardsOptions& options_;
  std::vector<std::pair<const std::string*, const std::string*>> pairs_;
  std::string source_;
  std::vector<ShardInfo> finished_;
  std::int64_t next_ = 0, skipped_ = 0;
};

}  // namespace detail

/// Copies the pairs of `folder` (only its split), picture bytes unchanged, into tar files `pairs-00000.tar`, ... in
/// `out`, each pair as `{prompt}_{seed}.before.jpg`, `.after.jpg` and `.json`, sorted by name, and writes `shards.json`
/// last. Equal folders and options give equal bytes.
///
/// An interrupted run resumes where it stopped: shards are written under a temporary name and renamed when complete,
/// and complete ones are reused. Damaged pairs are left out and listed.
/// \throws Error when `out` holds another conversion, when more than `largest_damage` pairs are damaged, and on I/O
///   failures; Cancelled when a stop was requested
inline PairShardsReport write_pair_shards(const PairFolder& folder, const std::filesystem::path& out,
                                          const PairShardsOptions& options = {}) {
  return detail::PairShardsWriter(folder, out, options).run();
}

}  // namespace ip2p
