// Pair shards are refused with an Error, or the index, written as JSON, reads the same, and each pair is refused or has
// the contents whose sizes and sums the index says, from within its tar file. The mutator puts the right headers, sums
// and sizes into files that it has changed.
//
// The input is the index, shards.json, and the tar file of its first shard, separated as fuzz/harness.hpp says.

#include <span>
#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/data/pair_shards.hpp"
#include "ip2p/io/image_definitions.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

/// The first shard of an index, if the index can be read.
std::optional<ip2p::detail::ShardInfo> first_shard(const nlohmann::json& index) {
  std::optional<ip2p::detail::ShardInfo> shard;
  try {
    fuzz::reads([&] { shard = ip2p::detail::shard_from_json(index.at("shards").at(0), "index"); });
  } catch (const std::exception&) {  // nlohmann's, and std::stoul's, which ShardIndex::read translates
  }
  return shard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::ScratchFolder scratch;
  const auto files = fuzz::files_of<2>(fuzz::text_of(data, size));
  const auto index = files[0], tar = files[1];
  scratch.clear();
  scratch.put(ip2p::detail::shard_index_name, index);
  const auto json = nlohmann::json::parse(index, nullptr, false);
  const auto first = json.is_object() ? first_shard(json) : std::nullopt;
  if (first && first->name.size() < 200 && first->name.find('\0') == std::string::npos) scratch.put(first->name, tar);
  fuzz::reads([&] {
    const auto read = ip2p::detail::ShardIndex::read(scratch.path() / ip2p::detail::shard_index_name);
    for (const auto& shard : read.shards) {
      const auto written = ip2p::detail::shard_json(shard);
      fuzz::must_read("an index that was read is not sound", [&] {
        fuzz::expect(ip2p::detail::shard_json(ip2p::detail::shard_from_json(written, "again")) == written,
                     "written again, an index differs");
      });
    }
    const auto shards = ip2p::PairShards::open(scratch.path());
    fuzz::expect(shards.size() <= shards.pairs(), "more prompts than pairs");
    for (std::int64_t i = 0; i < shards.pairs(); ++i) {
      fuzz::reads([&] {
        const auto pair = shards.files(i);
        fuzz::expect(pair.before.bytes.size() + pair.after.bytes.size() <= tar.size(), "contents beyond the file");
        static_cast<void>(ip2p::decode_pair(pair));
      });
    }
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 == 0) return size;
  const auto [index, tar] = fuzz::files_of<2>(fuzz::text_of(data, size));
  auto json = nlohmann::json::parse(index, nullptr, false);
  if (!json.is_object()) return size;
  const auto shard = first_shard(json);
  if (!shard) return size;
  std::string mended(tar);
  auto& pairs = json["shards"][0]["pairs"];
  if (shard->bytes > most) return size;
  mended.resize(shard->bytes);
  for (std::size_t i = 0; i < shard->pairs.size(); ++i) {
    auto place = shard->pairs[i].offset;
    for (std::size_t part = 0; part < 3; ++part) {
      const auto bytes = shard->pairs[i].sizes[part];
      const auto header = ip2p::detail::tar_header(shard->pairs[i].entry(part), bytes);
      mended.replace(place, header.size(), header.data(), header.size());
      place += header.size();
      pairs[i][3][part] = ip2p::detail::crc32(std::as_bytes(std::span(mended)).subspan(place, bytes));
      place += ip2p::detail::tar_padded(bytes);
    }
  }
  return fuzz::put_back(json.dump() + std::string(fuzz::separator) + mended, data, size, most);
}
