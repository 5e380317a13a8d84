#include "ip2p/data/pair_shards.hpp"

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "data/made_pairs.hpp"
#include "ip2p/data/write_pair_shards.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using namespace ip2p::testing;

namespace {

PairFolder every_pair(const std::filesystem::path& path) { return PairFolder::open(path, {.split = PairSplit::all}); }

nlohmann::json index_of(const std::filesystem::path& shards) {
  return nlohmann::json::parse(read_text(shards / "shards.json"));
}

/// Every file of a folder and its content.
std::map<std::string, std::string> contents_of(const std::filesystem::path& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    contents[entry.path().filename().string()] = read_text(entry.path());
  }
  return contents;
}

void flip_byte(const std::filesystem::path& path, std::size_t offset) {
  auto text = read_text(path);
  text.at(offset) = static_cast<char>(text[offset] ^ 1);
  write_text(path, text);
}

/// Whether shards and folder return the same for each prompt and several random numbers.
void check_equal(const PairShards& shards, const PairFolder& folder) {
  REQUIRE(shards.size() == folder.size());
  for (std::int64_t i = 0; i < folder.size(); ++i) {
    for (const double u : {0.0, 0.4, 0.8}) {
      const auto found = shards.read({i, u});
      CHECK(found == folder.read({i, u}));
      CHECK(found.id == shards.id({i, u}));
    }
  }
}

}  // namespace

TEST_CASE("A tar header has the fields and the checksum of POSIX", "[data]") {
  const auto header = ip2p::detail::tar_header("0000001_20.json", 1234);
  const auto field = [&](std::size_t offset, std::size_t size) { return std::string(header.data() + offset, size); };
  CHECK(std::string(header.data()) == "0000001_20.json");
  CHECK(field(100, 8) == std::string("0000644\0", 8));
  CHECK(field(124, 12) == std::string("00000002322\0", 12));
  CHECK(field(156, 1) == "0");
  CHECK(field(257, 6) == std::string("ustar\0", 6));
  CHECK(field(263, 2) == "00");
  unsigned sum = 8 * ' ';
  for (std::size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? 0 : static_cast<unsigned char>(header[i]);
  CHECK(std::strtoul(field(148, 6).c_str(), nullptr, 8) == sum);
  CHECK(field(154, 2) == std::string("\0 ", 2));
  CHECK_THROWS_WITH(ip2p::detail::tar_header(std::string(101, 'a'), 1), Contains("1 to 100 bytes, found 101"));
  CHECK_THROWS_WITH(ip2p::detail::tar_header("a", std::uint64_t{1} << 33), Contains("less than 8 GiB"));
}

TEST_CASE("Shards return what the folder returned, with the pictures' bytes unchanged, in any order", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch / "set", 7);  // 1+2+3+1+2+3+1 = 13 pairs
  const auto folder = every_pair(scratch / "set");
  std::vector<std::int64_t> progress;
  const auto report = write_pair_shards(folder, scratch / "out",
                                        {.max_count = 5, .on_pair = [&](std::int64_t done, std::int64_t count) {
                                           CHECK(count == 13);
                                           progress.push_back(done);
                                         }});
  CHECK(report.pairs == 13);
  CHECK(report.written == 3);
  CHECK(report.kept == 0);
  CHECK(report.skipped.empty());
  CHECK(progress.size() == 13);
  CHECK(progress.back() == 13);
  CHECK(contents_of(scratch / "out").size() == 4);  // three shards and the index, nothing else

  const auto shards = PairShards::open(scratch / "out");
  CHECK(shards.pairs() == 13);
  check_equal(shards, folder);
  SampleRandom one(1, 2, 3), again(1, 2, 3);
  CHECK(shards.get(2, one) == folder.get(2, again));
  CHECK(one.uniform() == again.uniform());
  const auto files = shards.files(5);
  CHECK(files.id == "0000002/30");
  CHECK((files.before.bytes == folder.files("0000002", "30").before.bytes));
  CHECK((files.after.bytes == folder.files("0000002", "30").after.bytes));
  CHECK(shards.files(0).words == folder.files("0000000", "10").words);
  CHECK_THROWS_WITH(shards.get(7, one), Contains("expected a prompt below 7, found 7"));
  CHECK_THROWS_WITH(shards.files(13), Contains("expected a pair below 13, found 13"));

  const auto limited = write_pair_shards(folder, scratch / "small", {.max_bytes = 12'000});
  CHECK(limited.written > 3);
  const auto small = index_of(scratch / "small");
  for (const auto& shard : small["shards"]) {
    CHECK((shard["bytes"] <= 12'000 || shard["count"] == 1));
    CHECK(shard["bytes"] == std::filesystem::file_size(scratch / "small" / shard["name"].get<std::string>()));
  }
  check_equal(PairShards::open(scratch / "small"), folder);
  CHECK_THROWS_WITH(write_pair_shards(folder, scratch / "x", {.max_count = 0}), Contains("at least 1 pair"));
  const auto empty = PairFolder::open(scratch / "set", {.split = PairSplit::validation});
  CHECK_THROWS_WITH(write_pair_shards(empty, scratch / "x"), Contains("expected at least one pair"));
}

TEST_CASE("Python's tarfile and tar read the shards", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch / "set", 4);
  write_pair_shards(every_pair(scratch / "set"), scratch / "out", {.max_count = 4});
  const auto quoted = [](const std::filesystem::path& path) { return "'" + path.string() + "'"; };
  const auto succeeds = [](const std::string& command) { return std::system(command.c_str()) == 0; };
  const auto list = scratch / "list";
  if (succeeds("tar --version > /dev/null 2>&1")) {
    REQUIRE(succeeds("tar tf " + quoted(scratch / "out/pairs-00001.tar") + " > " + quoted(list)));
    std::string expected;
    for (const char* key : {"0000002_20", "0000002_30", "0000003_10"}) {
      for (const char* part : {"before.jpg", "after.jpg", "json"}) expected += std::string(key) + "." + part + "\n";
    }
    CHECK(read_text(list) == expected);
  } else {
    WARN("skipped: tar is not here");
  }
  if (succeeds("python3 -c 'import tarfile' > /dev/null 2>&1")) {
    const auto command = "python3 " + quoted(fixture("data/read_shards.py")) + " ";
    REQUIRE(succeeds(command + quoted(scratch / "out") + " > " + quoted(list)));
    CHECK(read_text(list) == "7\n");
    flip_byte(scratch / "out/pairs-00000.tar", 1000);  // the script can fail
    CHECK_FALSE(succeeds(command + quoted(scratch / "out") + " > /dev/null 2>&1"));
  } else {
    WARN("skipped: python3 is not here");
  }
}

TEST_CASE("A conversion that was stopped continues and ends with the same bytes", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch / "set", 7);
  std::filesystem::resize_file(scratch / "set/0000001/20_1.jpg", 200);
  std::filesystem::remove(scratch / "set/0000006/10_0.jpg");  // the last pair of all
  const auto folder = every_pair(scratch / "set");
  const PairShardsOptions options{.max_count = 3};
  const auto whole = write_pair_shards(folder, scratch / "whole", options);
  CHECK(whole.pairs == 11);
  REQUIRE(whole.skipped.size() == 2);
  CHECK_THAT(whole.skipped[0].path, Contains("0000001/20"));
  CHECK_THAT(whole.skipped[0].reason, Contains("20_1.jpg"));
  CHECK_THAT(whole.skipped[1].reason, Contains("10_0.jpg: no such file"));
  const auto expected = contents_of(scratch / "whole");

  for (const std::int64_t stop_at : {1, 4, 5, 9, 12}) {
    INFO(stop_at);
    const auto out = scratch / fmt::format("out{}", stop_at);
    std::stop_source stop;
    auto stopping = options;
    stopping.stop = stop.get_token();
    stopping.on_pair = [&](std::int64_t done, std::int64_t) {
      if (done >= stop_at) stop.request_stop();
    };
    CHECK_THROWS_AS(write_pair_shards(folder, out, stopping), Cancelled);
    CHECK_THROWS_WITH(PairShards::open(out), Contains("expected shards.json"));
    // As a kill between writing and renaming leaves it.
    std::ofstream(out / ".shards.json.0123456789abcdef.tmp") << "{";
    const auto rest = write_pair_shards(folder, out, options);
    CHECK(rest.kept == (stop_at - (stop_at > 3 ? 1 : 0)) / 3);
    CHECK((rest.skipped == whole.skipped));
    CHECK((contents_of(out) == expected));
  }

  // Run again: all are kept. If a shard was damaged or lost, it alone is made again.
  CHECK(write_pair_shards(folder, scratch / "whole", options).written == 0);
  flip_byte(scratch / "whole/pairs-00001.tar", 5000);
  std::filesystem::remove(scratch / "whole/pairs-00003.tar");
  const auto repaired = write_pair_shards(folder, scratch / "whole", options);
  CHECK(repaired.written == 2);
  CHECK(repaired.kept == 2);
  CHECK((contents_of(scratch / "whole") == expected));

  // If the last shard is full before the last damaged pair, that pair is still listed.
  CHECK((write_pair_shards(folder, scratch / "full", {.max_count = 11}).skipped == whole.skipped));
  CHECK(write_pair_shards(folder, scratch / "full", {.max_count = 11}).kept == 1);
  CHECK_THROWS_WITH(write_pair_shards(folder, scratch / "whole", {.max_count = 4}),
                    Contains("belongs to another conversion"));
  CHECK_THROWS_WITH(write_pair_shards(folder, scratch / "strict", {.largest_damage = 1}),
                    Contains("expected at most 1 damaged pairs, found 2"));
  CHECK(contents_of(scratch / "strict").empty());
  write_text(scratch / "set/0000005/prompt.json", "{\"edit\": \"\xff\"}");
  CHECK(write_pair_shards(folder, scratch / "bytes").skipped.size() == 5);
  CHECK(PairShards::open(scratch / "bytes").pairs() == 8);
}

TEST_CASE("Damaged shards are refused by the names of shard and entry", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch / "set", 3);
  const auto out = scratch / "out";
  write_pair_shards(every_pair(scratch / "set"), out, {.max_count = 4});
  const auto tar = out / "pairs-00000.tar";
  const auto sound = read_text(tar);
  const auto index = index_of(out);
  const auto first_size = index["shards"][0]["pairs"][0][2][0].get<std::size_t>();

  flip_byte(tar, 512 + first_size / 2);
  CHECK_THROWS_WITH(PairShards::open(out).files(0),
                    Contains("pairs-00000.tar: entry '0000000_10.before.jpg': expected checksum"));
  CHECK(PairShards::open(out).files(1).id == "0000001/10");
  write_text(tar, sound);
  flip_byte(tar, 3);
  CHECK_THROWS_WITH(PairShards::open(out).files(0), Contains("'0000000_10.before.jpg': expected its header at byte 0"));
  write_text(tar, sound.substr(0, 5000));
  CHECK_THROWS_WITH(PairShards::open(out), Contains("pairs-00000.tar: is truncated: entry '") && Contains("at 5000"));
  write_text(tar, sound + "x");
  CHECK_THROWS_WITH(PairShards::open(out), Contains("expected " + std::to_string(sound.size()) + " bytes"));
  std::filesystem::remove(tar);
  CHECK_THROWS_WITH(PairShards::open(out), Contains("pairs-00000.tar"));
  write_text(tar, sound);
  CHECK(PairShards::open(out).size() == 3);

  const auto refuses = [&](const nlohmann::json& changed, const std::string& words) {
    write_text(out / "shards.json", changed.dump());
    CHECK_THROWS_WITH(PairShards::open(out), Contains(words));
  };
  auto changed = index;
  changed["version"] = 2;
  refuses(changed, "expected pair shards of version 1");
  changed = index;
  changed["shards"][0]["name"] = "../pairs-00000.tar";
  refuses(changed, "expected the name of a file beside the index, found '../pairs-00000.tar'");
  changed = index;
  changed["shards"][0]["pairs"][0][0] = "a/b";
  refuses(changed, "expected names of letters and digits, found 'a/b'");
  changed = index;
  changed["shards"][0]["pairs"][0][2][0] = std::uint64_t{1} << 40;
  refuses(changed, "expected entries below 8 GiB");
  changed = index;
  changed["shards"][0]["pairs"].erase(0);
  refuses(changed, "expected 4 pairs");
  changed = index;
  changed["shards"][0].erase("bytes");
  refuses(changed, "is not an index of pair shards");
  for (const char* key : {"bytes", "first", "end", "count"}) {
    changed = index;
    changed["shards"][0][key] = 1e300;
    refuses(changed, "is not an index of pair shards: found 1e+300, expected a whole number");
  }
  changed = index;
  changed["shards"][0]["pairs"][0][3][0] = -1;
  refuses(changed, "is not an index of pair shards: found -1, expected a whole number");
  changed = index;
  changed["shards"][0]["crc32"] = "zz";
  refuses(changed, "crc32");
  write_text(out / "shards.json", "{");
  CHECK_THROWS_WITH(PairShards::open(out), Contains("is not an index of pair shards"));
}

TEST_CASE("The published pairs convert to shards and back", "[data]") {
  const auto data = shared_data();
  if (!data || !std::filesystem::is_directory(*data / "ip2p_pairs")) {
    WARN("skipped: ip2p_pairs is not in the test data (set IP2P_TEST_DATA)");
    return;
  }
  const auto folder = PairFolder::open(*data / "ip2p_pairs", {.split = PairSplit::all, .scan = true});
  REQUIRE(folder.size() == 5);
  const ScratchDir scratch;
  const auto report = write_pair_shards(folder, scratch.path(), {.max_bytes = std::uint64_t{1} << 20});
  CHECK(report.pairs == 12);
  CHECK(report.skipped.empty());
  CHECK(report.written > 2);
  const auto shards = PairShards::open(scratch.path());
  check_equal(shards, folder);
  std::int64_t n = 0;
  for (const auto& prompt : folder.prompts()) {
    for (const auto& seed : prompt.seeds) {
      const auto found = shards.files(n++), expected = folder.files(prompt.prompt, seed);
      CHECK(found.id == expected.id);
      CHECK(found.words == expected.words);
      CHECK((found.before.bytes == expected.before.bytes));
      CHECK((found.after.bytes == expected.after.bytes));
    }
  }
  CHECK(n == 12);
  CHECK(shards.read({0, 0.0}).before.width == 512);
  CHECK(shards.read({0, 0.0}).instruction == "Add the detailed description.");
}
