#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "data/made_pairs.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/write_image_folder.hpp"
#include "ip2p/data/write_pair_shards.hpp"
#include "ip2p/io/image.hpp"
#include "support/catch.hpp"

// Training sets as people bring them: other kinds of pictures, and the layout of diffusers' trainer.

namespace {

namespace fs = std::filesystem;
using namespace ip2p;
using namespace ip2p::testing;

PairFolder whole(const fs::path& path, bool scan = false) {
  return PairFolder::open(path, {.split = PairSplit::all, .scan = scan});
}

/// A set of the published layout whose pictures are named otherwise.
void renamed_set(const fs::path& path, const std::string& extension) {
  write_pair_folder(path, 3);
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.path().extension() != ".jpg") continue;
    auto other = entry.path();
    other.replace_extension(extension);
    if (extension == ".png" || extension == ".PNG") {
      const auto picture = read_image(entry.path());
      write_image(fs::path(other).replace_extension(".png"), picture);
      if (extension == ".PNG") fs::rename(fs::path(other).replace_extension(".png"), other);
      fs::remove(entry.path());
    } else {
      fs::rename(entry.path(), other);
    }
  }
}

/// `lines` as the list of an image folder with the pictures 0_in.png, 0_out.png, ...
void write_list(const fs::path& folder, int pairs, const std::string& lines) {
  fs::create_directories(folder);
  for (int i = 0; i < pairs; ++i) {
    for (const char* side : {"in", "out"}) {
      Image picture{.width = 8, .height = 8, .pixels = std::vector<std::uint8_t>(8 * 8 * 3, 10 * i)};
      write_image(folder / fmt::format("{}_{}.png", i, side), picture);
    }
  }
  std::ofstream(folder / "metadata.jsonl") << lines;
}

std::string line(int i, const std::string& before = "original_image_file_name") {
  return fmt::format(R"({{"{}": "{}_in.png", "edited_image_file_name": "{}_out.png", "edit_prompt": "make it {}"}})",
                     before, i, i, i) +
         "\n";
}

}  // namespace

TEST_CASE("Pairs are read whatever common extension their pictures have", "[data]") {
  for (const std::string extension : {".jpeg", ".JPG", ".png", ".PNG"}) {
    INFO(extension);
    const ScratchDir scratch;
    renamed_set(scratch.path(), extension);
    for (const bool scan : {false, true}) {
      const auto folder = whole(scratch.path(), scan);
      REQUIRE(folder.size() == 3);
      SampleRandom random(1, 2, 3);
      CHECK(folder.get(1, random).instruction == "edit 1");
      CHECK(folder.damage().empty());
    }
    const auto report = write_image_folder(whole(scratch.path()), scratch / "copy");
    CHECK(report.skipped.empty());
    CHECK(whole(scratch / "copy").size() == 3);
  }
}

TEST_CASE("An image folder of diffusers' trainer is read as well as written", "[data]") {
  const ScratchDir scratch;
  write_list(scratch / "train", 3, line(0) + "\n" + line(1) + line(2, "input_image_file_name"));
  write_list(scratch / "test", 1, line(0));
  CHECK(PairFolder::open(scratch.path()).size() == 3);
  CHECK(PairFolder::open(scratch.path(), {.split = PairSplit::test}).size() == 1);
  const auto folder = whole(scratch.path(), true);
  REQUIRE(folder.size() == 4);
  std::set<std::string> seen;
  for (std::int64_t i = 0; i < 4; ++i) {
    const auto pair = folder.read({i, 0.0});
    seen.insert(pair.instruction);
    CHECK(pair.id == folder.id({i, 0.0}));
    CHECK(pair.output.empty());
  }
  CHECK(seen == std::set<std::string>{"make it 0", "make it 1", "make it 2"});
  CHECK(folder.damage().empty());
  static_cast<void>(write_pair_shards(folder, scratch / "shards", {}));

  // What we write comes back with its prompts and seeds.
  write_pair_folder(scratch / "published", 4);
  const auto published = whole(scratch / "published");
  static_cast<void>(write_image_folder(published, scratch / "copy"));
  const auto copy = whole(scratch / "copy");
  CHECK((copy.prompts() == published.prompts()));
  for (std::int64_t i = 0; i < 4; ++i) CHECK(copy.read({i, 0.5}) == published.read({i, 0.5}));
}

TEST_CASE("A faulty list of an image folder is refused with its line", "[data]") {
  for (const auto& [lines, message] : std::vector<std::pair<std::string, std::string>>{
           {line(0) + "{", "metadata.jsonl:2: expected JSON, found a syntax error"},
           {R"({"edit_prompt": "x"})", "metadata.jsonl:1: expected a text 'original_image_file_name', found none"},
           {R"({"original_image_file_name": "../a.png"})", "expected the name of a picture in the folder"},
           {R"({"original_image_file_name": 3})", "original_image_file_name: expected a text, found 3"},
           {"\n", "expected a line for each pair, found none"}}) {
    INFO(lines);
    const ScratchDir scratch;
    write_list(scratch / "train", 1, lines);
    CHECK_THROWS_WITH(whole(scratch.path()), Contains(message));
  }
}

TEST_CASE("When no pair is sound, the first reason is named", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 2);
  for (const auto& entry : fs::recursive_directory_iterator(scratch.path())) {
    if (entry.path().extension() == ".jpg") fs::remove(entry.path());
  }
  CHECK_THROWS_WITH(whole(scratch.path()).read({0, 0.0}),
                    Contains("expected a sound pair, found none among 2 prompts; the first:") &&
                        Contains(".jpg: no such file, nor as .jpeg, .png or .webp"));
  std::ofstream(scratch / "0000000" / "prompt.json") << "{\"edit\": \"caf\xe9\"}";
  CHECK_THROWS_WITH(whole(scratch.path()).read({0, 0.0}), Contains("found text that is not UTF-8 at byte"));
}
