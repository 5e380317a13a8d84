#include "ip2p/text/bpe_tokenizer.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "support/ids_hash.hpp"
#include "support/reference.hpp"

namespace {

using ip2p::BpeTokenizer;
using ip2p::testing::fixture;
using ip2p::testing::IdsHash;
using ip2p::testing::random_texts;
using ip2p::testing::read_json;
using ip2p::testing::read_lines;
using ip2p::testing::ScratchDir;
using ip2p::testing::utf8;
using nlohmann::json;

std::filesystem::path clip_folder() { return ip2p::testing::tests_root().parent_path() / "models" / "clip-tokenizer"; }

const BpeTokenizer& clip() {
  static const auto tokenizer = BpeTokenizer::open(clip_folder());
  return tokenizer;
}

std::vector<std::int64_t> framed(const std::vector<std::int64_t>& all, const BpeTokenizer& tokenizer) {
  std::vector<std::int64_t> ids{tokenizer.bos()};
  ids.insert(ids.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(all.size(), 75)));
  ids.push_back(tokenizer.eos());
  ids.resize(77, tokenizer.pad());
  return ids;
}

/// A copy of CLIP's folder in which one file can be damaged.
void copy_clip(const std::filesystem::path& to) {
  for (const char* name : {"vocab.json", "merges.txt"}) std::filesystem::copy_file(clip_folder() / name, to / name);
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string opening_error(const std::filesystem::path& folder) {
  try {
    BpeTokenizer::open(folder);
  } catch (const ip2p::Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("BpeTokenizer equals CLIPTokenizer on difficult texts", "[text]") {
  const auto golden = read_json(fixture("text/fixtures/hard_texts.json"));
  REQUIRE(golden["texts"].size() >= 150);
  std::map<std::string, BpeTokenizer> tokenizers;
  for (const auto& [name, config] : golden["configs"].items()) {
    tokenizers.emplace(name, BpeTokenizer::open(clip_folder() / "vocab.json", clip_folder() / "merges.txt",
                                                config.is_null() ? json::object() : config));
  }
  for (const auto& row : golden["texts"]) {
    const auto text = row["text"].get<std::string>();
    CAPTURE(row["text"].dump());
    const auto all = row["all"].get<std::vector<std::int64_t>>();
    CHECK(clip().tokenize(text) == all);
    const auto tokens = clip().encode(text);
    CHECK(tokens.ids == framed(all, clip()));
    CHECK(tokens.count == static_cast<std::int64_t>(all.size()));
    CHECK(tokens.truncated == (all.size() > 75));
    CHECK(tokens.dropped == row.value("dropped", ""));
    CHECK(clip().decode(all) == row["decoded"].get<std::string>());
    for (const auto& [name, tokenizer] : tokenizers) {
      CAPTURE(name);
      auto expected = framed(all, clip());
      if (row.contains(name)) {
        expected = row[name].get<std::vector<std::int64_t>>();
        expected.resize(77, expected.back());
      }
      CHECK(tokenizer.encode(text).ids == expected);
    }
  }
}

TEST_CASE("BpeTokenizer treats every Unicode code point as CLIPTokenizer does", "[text]") {
  const auto golden = read_lines(fixture("text/fixtures/code_points.txt"));
  REQUIRE(golden.size() == 0x110000 / 1024);
  for (std::size_t block = 0; block < golden.size(); ++block) {
    IdsHash hash;
    for (auto c = static_cast<char32_t>(block * 1024); c < (block + 1) * 1024; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      const auto s = utf8(c);
      hash.add(clip().tokenize("a" + s + "B e" + s + utf8(0x301) + utf8(0x327) + " " + s + "1"));
    }
    CAPTURE(fmt::format("U+{:04X}..", block * 1024));
    CHECK(hash.text() == golden[block]);
  }
}

TEST_CASE("BpeTokenizer equals CLIPTokenizer on random texts", "[text]") {
  const auto golden = read_lines(fixture("text/fixtures/random_texts.txt"));
  REQUIRE(golden.size() == 40);
  const auto texts = random_texts(4000);
  for (std::size_t block = 0; block < golden.size(); ++block) {
    IdsHash hash;
    for (std::size_t i = 0; i < 100; ++i) hash.add(clip().tokenize(texts[100 * block + i]));
    CAPTURE(block);
    CHECK(hash.text() == golden[block]);
  }
}

TEST_CASE("BpeTokenizer equals CLIPTokenizer on the 700 human triplets", "[text][data]") {
  const auto data = ip2p::testing::shared_data();
  if (!data) {
    WARN("skipped: human-written-prompts.jsonl is not here; set IP2P_TEST_DATA");
    return;
  }
  const auto lines = read_lines(*data / "human-written-prompts.jsonl");
  const auto golden = read_lines(fixture("text/fixtures/triplets.txt"));
  REQUIRE(lines.size() == 700);
  REQUIRE(golden.size() == lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto triplet = json::parse(lines[i]);
    IdsHash hash;
    for (const char* key : {"input", "edit", "output"}) hash.add(clip().tokenize(triplet[key].get<std::string>()));
    CAPTURE(lines[i]);
    CHECK(hash.text() == golden[i]);
  }
}

TEST_CASE("BpeTokenizer replaces ill-formed UTF-8 as Python does, or refuses it", "[text]") {
  const auto strict = BpeTokenizer::open(clip_folder(), {.invalid_utf8 = ip2p::InvalidUtf8::error});
  const auto golden_ill_formed = read_json(fixture("text/fixtures/hard_texts.json"));
  for (const auto& row : golden_ill_formed["ill_formed"]) {
    const auto hex = row["bytes"].get<std::string>();
    CAPTURE(hex);
    std::string text;
    for (std::size_t i = 0; i < hex.size(); i += 2) text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    CHECK(clip().tokenize(text) == row["all"].get<std::vector<std::int64_t>>());
    if (hex != "ee8080" && hex != "f48fbfbf") {  // private use and the last code point are well-formed
      CHECK_THROWS_WITH(strict.encode(text), Contains("expected UTF-8, found byte 0x"));
    }
  }
  CHECK_THROWS_WITH(strict.encode("ab\xff"), Contains("0xFF at position 2 of 3"));
  CHECK(strict.encode("caf\xc3\xa9").count == 1);
}

TEST_CASE("BpeTokenizer reports what a long prompt loses", "[text]") {
  std::string prompt;
  for (int i = 0; i < 75; ++i) prompt += "the ";
  CHECK_FALSE(clip().encode(prompt).truncated);
  const auto tokens = clip().encode(prompt + "Last  Words");
  CHECK(tokens.truncated);
  CHECK(tokens.count == 77);
  CHECK(tokens.dropped == "last words");
  CHECK(tokens.ids.size() == 77);
  CHECK(tokens.ids.back() == clip().eos());
  CHECK(clip().encode("").ids == framed({}, clip()));
  const auto short_one = BpeTokenizer::open(clip_folder(), {.max_length = 4});
  CHECK(short_one.encode("a red car").ids == std::vector<std::int64_t>{49406, 320, 736, 49407});
}

TEST_CASE("BpeTokenizer works in linear time on long input", "[text]") {
  // Work is counted, not timed: each byte of a word queues at most three candidates.
  ip2p::detail::BytePairs pairs;
  pairs.add(0, 0, {0, 1});
  pairs.add(1, 1, {1, 2});
  pairs.add(2, 2, {2, 3});
  for (const std::size_t size : {1000u, 1000000u}) {
    std::vector<std::int64_t> word(size, 0);
    CHECK(pairs.merge(word) <= 3 * size);
    CHECK(word == std::vector<std::int64_t>(size / 8, 3));
  }
  const auto megabyte = clip().encode(std::string(1 << 20, 'a'));
  CHECK(megabyte.truncated);
  CHECK(megabyte.dropped.size() + 75 * 16 > (1 << 20));
  std::string words, specials;
  for (int i = 0; i < 200000; ++i) words += "ab !";
  CHECK(clip().encode(words).count == 400000);
  for (int i = 0; i < 50000; ++i) specials += "<|endoftext|>";
  CHECK(clip().encode(specials).count == 50000);
  std::string marks = "e";
  for (int i = 0; i < 200000; ++i) marks += i % 2 ? "\xcc\x81" : "\xcc\xa7";
  CHECK(clip().encode(marks).truncated);
}

TEST_CASE("BpeTokenizer opens every layout of a tokenizer folder", "[text]") {
  SECTION("two files without configuration") {
    ScratchDir dir;
    copy_clip(dir.path());
    CHECK(BpeTokenizer::open(dir.path()).encode("hi!").ids == clip().encode("hi!").ids);
  }
  SECTION("special_tokens_map.json has the last word on the pad token") {
    ScratchDir dir;
    copy_clip(dir.path());
    write(dir / "tokenizer_config.json", R"({"pad_token":"<|endoftext|>","model_max_length":1e30})");
    write(dir / "special_tokens_map.json", R"({"pad_token":"!"})");
    const auto tokenizer = BpeTokenizer::open(dir.path());
    CHECK(tokenizer.pad() == 0);
    CHECK(tokenizer.max_length() == 77);
    CHECK(tokenizer.encode("hi").ids[3] == 0);
  }
  SECTION("tokenizer.json alone") {
    ScratchDir dir;
    json merges = json::array();
    for (const auto& line : read_lines(clip_folder() / "merges.txt")) {
      if (line.starts_with("#version")) continue;
      const auto space = line.find(' ');
      merges.push_back(merges.size() % 2 ? json(line) : json{line.substr(0, space), line.substr(space + 1)});
    }
    const json whole{
        {"added_tokens",
         {{{"id", 0}, {"content", "!"}, {"normalized", false}, {"special", true}},
          {{"id", 49406}, {"content", "<|startoftext|>"}, {"normalized", true}, {"special", true}},
          {{"id", 49407}, {"content", "<|endoftext|>"}, {"normalized", true}, {"special", true}}}},
        {"model",
         {{"end_of_word_suffix", "</w>"}, {"vocab", read_json(clip_folder() / "vocab.json")}, {"merges", merges}}}};
    write(dir / "tokenizer.json", whole.dump());
    write(dir / "tokenizer_config.json", R"({"pad_token":"!"})");
    const auto tokenizer = BpeTokenizer::open(dir.path());
    // The configuration that transformers saves from an SD 2 folder.
    const auto golden_texts = read_json(fixture("text/fixtures/hard_texts.json"));
    for (const auto& row : golden_texts["texts"]) {
      if (!row.contains("sd2")) continue;
      auto expected = row["sd2"].get<std::vector<std::int64_t>>();
      expected.resize(77, expected.back());
      CHECK(tokenizer.encode(row["text"].get<std::string>()).ids == expected);
    }
  }
}

TEST_CASE("BpeTokenizer refuses damaged vocabularies with a sentence", "[text]") {
  ScratchDir dir;
  copy_clip(dir.path());
  const auto vocab = dir / "vocab.json";
  const auto merges = dir / "merges.txt";
  const auto good = read_json(vocab);

  CHECK_THAT(opening_error(dir / "nowhere"), Contains("expected a folder with a tokenizer"));
  SECTION("missing file") {
    std::filesystem::remove(merges);
    CHECK_THAT(opening_error(dir.path()), Contains("merges.txt") && Contains("found none"));
  }
  SECTION("not JSON") {
    write(vocab, good.dump().substr(0, 5000));
    CHECK_THAT(opening_error(dir.path()), Contains("vocab.json") && Contains("expected JSON"));
  }
  SECTION("git-LFS pointer") {
    write(vocab, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 862328\n");
    CHECK_THAT(opening_error(dir.path()), Contains("git-LFS pointer"));
  }
  SECTION("an array") {
    write(vocab, "[1, 2]");
    CHECK_THAT(opening_error(dir.path()), Contains("expected a JSON object, found array"));
  }
  SECTION("ids that are not integers, negative, huge or used twice") {
    const std::pair<json, const char*> cases[] = {{json("7"), "expected an integer id, found string"},
                                                  {json(1.5), "expected an integer id, found number"},
                                                  {json(-1), "found -1"},
                                                  {json(4000000000), "found 4000000000"},
                                                  {json(321), "expected one token for id 321"}};
    for (const auto& [value, message] : cases) {
      auto bad = good;
      bad["a</w>"] = value;
      write(vocab, bad.dump());
      CHECK_THAT(opening_error(dir.path()), Contains("vocab.json") && Contains(message));
    }
  }
  SECTION("a merge without two tokens") {
    write(merges, "#version: 0.2\ni n\nthe\n");
    CHECK_THAT(opening_error(dir.path()), Contains("merge 2") && Contains("found 'the'"));
  }
  SECTION("a merge of unknown tokens") {
    write(merges, "#version: 0.2\ni n\nqzqzqz xyxy\n");
    CHECK_THAT(opening_error(dir.path()), Contains("merge 2") && Contains("'qzqzqz' is not in it"));
  }
  SECTION("no merges") {
    write(merges, "#version: 0.2\n");
    CHECK_THAT(opening_error(dir.path()), Contains("expected a list of merges"));
  }
  SECTION("special tokens that the vocabulary lacks") {
    auto bad = good;
    bad.erase("<|endoftext|>");
    write(vocab, bad.dump());
    CHECK_THAT(opening_error(dir.path()), Contains("eos_token '<|endoftext|>'") && Contains("but it is not one"));
  }
  SECTION("configuration of another tokenizer") {
    write(dir / "tokenizer_config.json", R"({"eos_token":{"content":"<|endoftext|>","lstrip":true}})");
    CHECK_THAT(opening_error(dir.path()), Contains("expected lstrip false"));
    write(dir / "tokenizer_config.json", R"({"eos_token":7})");
    CHECK_THAT(opening_error(dir.path()), Contains("eos_token: expected a string or an object"));
    write(dir / "tokenizer_config.json", R"({"model_max_length":1})");
    CHECK_THAT(opening_error(dir.path()), Contains("model_max_length: expected at least 2"));
  }
  SECTION("values of another type, and brackets without an end") {
    for (const char* config : {R"({"eos_token":{"content":"<|endoftext|>","lstrip":"yes"}})",
                               R"({"bos_token":{"content":"<|startoftext|>","normalized":1}})",
                               R"({"additional_special_tokens":[{"content":7}]})"}) {
      write(dir / "tokenizer_config.json", config);
      CHECK_THAT(opening_error(dir.path()), Contains("expected the configuration of a CLIP tokenizer, found a value") ||
                                                Contains("expected a string or an object"));
    }
    write(dir / "tokenizer_config.json", std::string(1'000'000, '['));
    CHECK_THAT(opening_error(dir.path()), Contains("tokenizer_config.json: expected JSON"));
  }
  SECTION("tokenizer.json of another model") {
    std::filesystem::remove(vocab);
    write(dir / "tokenizer.json", R"({"model":{"vocab":{"a":0},"merges":[]}})");
    CHECK_THAT(opening_error(dir.path()), Contains("end_of_word_suffix"));
    write(dir / "tokenizer.json", R"({"version":"1.0"})");
    CHECK_THAT(opening_error(dir.path()), Contains("\"vocab\" and \"merges\""));
  }
  CHECK_THROWS_WITH(clip().decode(std::vector<std::int64_t>{49408}), Contains("expected 0 .. 49407, found 49408"));
}
