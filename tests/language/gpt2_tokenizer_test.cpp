#include "ip2p/language/gpt2_tokenizer.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "support/ids_hash.hpp"
#include "support/reference.hpp"

namespace {

using ip2p::Gpt2Tokenizer;
using ip2p::testing::fixture;
using ip2p::testing::IdsHash;
using ip2p::testing::random_texts;
using ip2p::testing::read_json;
using ip2p::testing::read_lines;
using ip2p::testing::ScratchDir;
using ip2p::testing::utf8;
using nlohmann::json;

std::filesystem::path tiny_folder() { return fixture("language/fixtures/tiny-gpt2"); }

const Gpt2Tokenizer& tiny_tokenizer() {
  static const auto tokenizer = Gpt2Tokenizer::open(tiny_folder());
  return tokenizer;
}

void write_json(const std::filesystem::path& path, const json& value) { std::ofstream(path) << value.dump(); }

std::string opening_error(const std::filesystem::path& folder) {
  try {
    Gpt2Tokenizer::open(folder);
  } catch (const ip2p::Error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::int64_t> ids_of(const json& row) { return row["ids"].get<std::vector<std::int64_t>>(); }

/// The tokenizer as one tokenizer.json, in which something can be damaged.
json whole_tokenizer() {
  json merges = json::array();
  std::ifstream stream(tiny_folder() / "merges.txt");
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with("#version")) merges.push_back(line);
  }
  return {{"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"added_tokens", {{{"id", 0}, {"content", "<|endoftext|>"}, {"special", true}}}},
          {"model", {{"vocab", read_json(tiny_folder() / "vocab.json")}, {"merges", merges}}}};
}

}  // namespace

TEST_CASE("Gpt2Tokenizer equals GPT2Tokenizer on difficult texts, and decodes to them again", "[language]") {
  const auto golden = read_json(fixture("language/fixtures/texts.json"));
  REQUIRE(golden["texts"].size() >= 200);
  for (const auto& row : golden["texts"]) {
    const auto text = row["text"].get<std::string>();
    CAPTURE(row["text"].dump());
    CHECK(tiny_tokenizer().encode(text) == ids_of(row));
    CHECK(tiny_tokenizer().decode(ids_of(row)) == row["decoded"].get<std::string>());
    CHECK(tiny_tokenizer().decode(tiny_tokenizer().encode(text)) == text);
  }
  for (const auto& row : golden["ids"]) {  // random ids, so that characters begin and end anywhere
    CHECK(tiny_tokenizer().decode(ids_of(row)) == row["decoded"].get<std::string>());
  }
}

TEST_CASE("Gpt2Tokenizer replaces ill-formed UTF-8 as Python does, or refuses it", "[language]") {
  const auto strict = Gpt2Tokenizer::open(tiny_folder(), ip2p::InvalidUtf8::error);
  const auto golden_ill_formed = read_json(fixture("language/fixtures/texts.json"));
  for (const auto& row : golden_ill_formed["ill_formed"]) {
    const auto hex = row["bytes"].get<std::string>();
    CAPTURE(hex);
    std::string text;
    for (std::size_t i = 0; i < hex.size(); i += 2) text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    CHECK(tiny_tokenizer().encode(text) == ids_of(row));
    if (tiny_tokenizer().decode(tiny_tokenizer().encode(text)) != text) {
      CHECK_THROWS_WITH(strict.encode(text), Contains("expected UTF-8, found byte 0x"));
    }
  }
}

TEST_CASE("gpt2_piece splits every code point and random texts like the published expression", "[language]") {
  const auto golden = read_lines(fixture("language/fixtures/pieces.txt"));
  REQUIRE(golden.size() == 0x110000 / 1024 + 40);
  const auto add_pieces = [](IdsHash& hash, const std::string& text) {
    const auto points = ip2p::detail::decode_utf8(text, ip2p::InvalidUtf8::error);
    std::vector<std::int64_t> lengths;
    for (std::u32string_view rest = points; !rest.empty(); rest.remove_prefix(lengths.back())) {
      lengths.push_back(static_cast<std::int64_t>(ip2p::detail::gpt2_piece(rest)));
    }
    hash.add(lengths);
  };
  for (std::size_t block = 0; block < 0x110000 / 1024; ++block) {
    IdsHash hash;
    for (auto c = static_cast<char32_t>(block * 1024); c < (block + 1) * 1024; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      const auto s = utf8(c);
      add_pieces(hash, "a" + s + "B " + s + s + "1  " + s + "'s\n" + s);
    }
    CAPTURE(fmt::format("U+{:04X}..", block * 1024));
    CHECK(hash.text() == golden[block]);
  }
  const auto texts = random_texts(4000);
  for (std::size_t block = 0; block < 40; ++block) {
    IdsHash hash;
    for (std::size_t i = 0; i < 100; ++i) add_pieces(hash, texts[100 * block + i]);
    CAPTURE(block);
    CHECK(hash.text() == golden[0x110000 / 1024 + block]);
  }
}

TEST_CASE("Gpt2Tokenizer equals GPT2Tokenizer with GPT-2's own vocabulary", "[language][data]") {
  const char* folder = std::getenv("IP2P_TEST_GPT2");
  if (folder == nullptr) {
    WARN("skipped: set IP2P_TEST_GPT2 to a folder with GPT-2's vocab.json and merges.txt");
    return;
  }
  const auto tokenizer = Gpt2Tokenizer::open(folder);
  CHECK(tokenizer.vocabulary_size() == 50257);
  CHECK(tokenizer.eos() == 50256);
  const auto golden = read_lines(fixture("language/fixtures/gpt2_ids.txt"));
  REQUIRE(golden.size() == 42);
  IdsHash hard;
  const auto golden_texts = read_json(fixture("language/fixtures/texts.json"));
  for (const auto& row : golden_texts["texts"]) {
    hard.add(tokenizer.encode(row["text"].get<std::string>()));
  }
  CHECK(hard.text() == golden[0]);
  if (const auto data = ip2p::testing::shared_data()) {
    IdsHash hash;
    for (const auto& line : read_lines(*data / "human-written-prompts.jsonl")) {
      const auto triplet = json::parse(line);
      for (const char* key : {"input", "edit", "output"}) hash.add(tokenizer.encode(triplet[key].get<std::string>()));
    }
    CHECK(hash.text() == golden[1]);
  }
  const auto texts = random_texts(4000);
  for (std::size_t block = 0; block < 40; ++block) {
    IdsHash hash;
    for (std::size_t i = 0; i < 100; ++i) hash.add(tokenizer.encode(texts[100 * block + i]));
    CHECK(hash.text() == golden[2 + block]);
  }
}

TEST_CASE("Gpt2Tokenizer takes time in proportion to the length of a repetitive text", "[language]") {
  const auto begin = std::chrono::steady_clock::now();
  const std::string text(1 << 20, 'a');
  const auto ids = tiny_tokenizer().encode(text);
  CHECK(tiny_tokenizer().decode(ids) == text);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("Gpt2Tokenizer reads tokenizer.json and says what it does not support", "[language]") {
  const ScratchDir scratch;
  auto whole = whole_tokenizer();
  write_json(scratch / "tokenizer.json", whole);
  const auto tokenizer = Gpt2Tokenizer::open(scratch.path());
  const auto golden_texts = read_json(fixture("language/fixtures/texts.json"));
  for (const auto& row : golden_texts["texts"]) {
    CHECK(tokenizer.encode(row["text"].get<std::string>()) == ids_of(row));
  }
  CHECK(tokenizer.eos() == 0);

  whole["added_tokens"].push_back({{"id", 600}, {"content", "<pad>"}});
  write_json(scratch / "tokenizer.json", whole);
  CHECK(Gpt2Tokenizer::open(scratch.path()).encode("a<pad>") ==
        std::vector<std::int64_t>{tiny_tokenizer().encode("a").at(0), 600});
  whole["added_tokens"][1]["id"] = 900;
  write_json(scratch / "tokenizer.json", whole);
  CHECK_THAT(opening_error(scratch.path()),
             Contains("'<pad>': expected id 600, the next one of the vocabulary, found 900"));
  whole["added_tokens"][1] = {{"id", 600}, {"content", "<pad>"}, {"lstrip", true}};
  write_json(scratch / "tokenizer.json", whole);
  CHECK_THAT(opening_error(scratch.path()), Contains("'<pad>': expected lstrip false, found true"));
  whole = whole_tokenizer();
  whole["pre_tokenizer"]["add_prefix_space"] = true;
  write_json(scratch / "tokenizer.json", whole);
  CHECK_THAT(opening_error(scratch.path()), Contains("expected GPT-2's tokenizer (pre_tokenizer ByteLevel"));
  whole = whole_tokenizer();
  whole["model"]["vocab"].erase("!");
  write_json(scratch / "tokenizer.json", whole);
  CHECK_THAT(opening_error(scratch.path()),
             Contains("byte '!': expected a token of the vocabulary, but it is not one"));
}

TEST_CASE("Gpt2Tokenizer refuses folders and ids that it cannot read", "[language]") {
  const ScratchDir scratch;
  CHECK_THAT(opening_error(scratch / "nowhere"), Contains("expected a folder with a tokenizer, found none"));
  CHECK_THAT(opening_error(scratch.path()), Contains("vocab.json: expected a tokenizer file, found none"));
  std::filesystem::copy_file(tiny_folder() / "vocab.json", scratch / "vocab.json");
  CHECK_THAT(opening_error(scratch.path()), Contains("merges.txt: expected a tokenizer file, found none"));
  std::filesystem::copy_file(tiny_folder() / "merges.txt", scratch / "merges.txt");
  write_json(scratch / "tokenizer_config.json", {{"eos_token", "<eos>"}});
  CHECK_THAT(opening_error(scratch.path()), Contains("eos_token '<eos>': expected a token of the vocabulary"));
  for (const auto& token : std::vector<nlohmann::json>{{{"content", "a"}, {"lstrip", 1}}, {{"content", 7}}}) {
    write_json(scratch / "tokenizer_config.json", {{"eos_token", token}});
    CHECK_THAT(opening_error(scratch.path()), Contains("expected the files of GPT-2's tokenizer, found a value of") ||
                                                  Contains("expected a text or an object with \"content\""));
  }
  CHECK_THROWS_WITH(tiny_tokenizer().decode(std::vector<std::int64_t>{600}), "token id: expected 0 .. 599, found 600");
  CHECK_THROWS_WITH(tiny_tokenizer().bytes_of(-1), "token id: expected 0 .. 599, found -1");
}
