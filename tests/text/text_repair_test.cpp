#include "ip2p/text/text_repair.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/text/bpe_tokenizer.hpp"
#include "support/reference.hpp"

namespace {

using ip2p::BpeTokenizer;
using ip2p::repair_text;
using ip2p::TokenizerText;
using ip2p::testing::fixture;
using ip2p::testing::read_json;
using nlohmann::json;

std::filesystem::path clip_files() { return ip2p::testing::tests_root().parent_path() / "models" / "clip-tokenizer"; }

}  // namespace

TEST_CASE("repair_text equals ftfy.fix_text", "[text]") {
  const auto golden = read_json(fixture("text/fixtures/released_texts.json"));
  REQUIRE(golden["prompts"].size() >= 120);
  REQUIRE(golden["damaged"].size() == 500);
  for (const char* list : {"prompts", "damaged"}) {
    for (const auto& row : golden[list]) {
      CAPTURE(row["text"].dump());
      CHECK(json(repair_text(row["text"].get<std::string>())).dump() == row["fixed"].dump());
    }
  }
}

TEST_CASE("BpeTokenizer as in the released program equals its slow CLIPTokenizer", "[text]") {
  const auto golden = read_json(fixture("text/fixtures/released_texts.json"));
  const auto released = BpeTokenizer::open(clip_files(), {.text = TokenizerText::released});
  const auto as_written = BpeTokenizer::open(clip_files());
  std::size_t others = 0;
  for (const auto& row : golden["prompts"]) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<std::int64_t>>();
    CAPTURE(row["text"].dump());
    CHECK(released.tokenize(text) == ids);
    others += as_written.tokenize(text) != ids ? 1 : 0;
    const auto tokens = released.encode(text);
    CHECK(tokens.ids.size() == 77);
    CHECK(tokens.count == static_cast<std::int64_t>(ids.size()));
  }
  CHECK(others >= 80);  // the default tokenizer differs on these texts
}

TEST_CASE("BpeTokenizer as in the released program agrees with the default on plain texts", "[text]") {
  const auto released = BpeTokenizer::open(clip_files(), {.text = TokenizerText::released});
  const auto as_written = BpeTokenizer::open(clip_files());
  for (const char* text : {"make it a sunset", "Swap sunflowers with roses!", "it's 10 o'clock; don't worry",
                           "a (b) [c]", "caf\u00e9 in M\u00fcnchen", "\u4f60\u597d", "what if it were 1987?"}) {
    CHECK(released.tokenize(text) == as_written.tokenize(text));
  }
}

TEST_CASE("The released tokenizer also finds the word of a textual inversion", "[text]") {
  auto released = BpeTokenizer::open(clip_files(), {.text = TokenizerText::released});
  const auto id = released.add_token("<Cat-Toy>", 2);
  const auto ids = released.tokenize("a <cat-toy>\u2019s ball");
  REQUIRE(ids.size() == 5);
  CHECK(ids[1] == id);
  CHECK(ids[2] == id + 1);
  CHECK(released.tokenize("'s") == std::vector<std::int64_t>{ids[3]});
}

TEST_CASE("Ill-formed bytes are replaced or refused before a text is repaired", "[text]") {
  CHECK(repair_text(std::string_view("a\xFF\xE2\x80\x99s")) == "a\uFFFD's");
  const auto strict =
      BpeTokenizer::open(clip_files(), {.text = TokenizerText::released, .invalid_utf8 = ip2p::InvalidUtf8::error});
  CHECK_THROWS_WITH(strict.tokenize("a\xFF"), Catch::Matchers::Contains("expected UTF-8, found byte 0xFF"));
}
