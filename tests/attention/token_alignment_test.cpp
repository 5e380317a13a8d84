#include "ip2p/attention/token_alignment.hpp"

#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <functional>
#include <sstream>

#include "attention/explicit_maps.hpp"
#include "ip2p/attention/windows.hpp"

using namespace ip2p;
using testing::golden_prompt;

namespace {

const nlohmann::json& fixture() {
  static const auto content = testing::golden("attention/fixtures/alignment.json");
  return content;
}

/// A prompt in which each word is one token.
PromptTokens words(const std::string& text, std::int64_t length = 77) {
  std::vector<std::int64_t> ids;
  std::vector<std::string> pieces;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) {
    ids.push_back(static_cast<std::int64_t>(std::hash<std::string>{}(word) % 40000));
    pieces.push_back(word);
  }
  return {text, ids, pieces, length};
}

/// A tokenizer that takes any three bytes for the token "la".
struct Syllables {
  std::vector<std::int64_t> tokenize(std::string_view text) const {
    return std::vector<std::int64_t>(text.size() / 3, 7);
  }
  std::string decode(std::span<const std::int64_t> ids) const { return ids.size() == 1 ? "la" : "?"; }
  std::int64_t max_length() const { return 9; }
};

}  // namespace

TEST_CASE("Words have the tokens that google/prompt-to-prompt finds", "[attention]") {
  std::size_t checked = 0;
  for (const auto& list : {fixture()["swaps"], fixture()["refinements"]}) {
    for (const auto& pair : list) {
      for (const auto& json : {pair["source"], pair["edited"]}) {
        const auto prompt = golden_prompt(json);
        INFO(json["text"]);
        REQUIRE(prompt.words().size() == json["words"].size());
        for (std::size_t i = 0; i < prompt.words().size(); ++i) {
          CHECK(prompt.tokens_of(i) == json["words"][i].get<std::vector<std::int64_t>>());
          ++checked;
        }
      }
    }
  }
  REQUIRE(checked > 80);
}

TEST_CASE("A word's tokens are those of all its occurrences", "[attention]") {
  const auto prompt = golden_prompt(fixture()["swaps"][3]["source"]);
  REQUIRE(prompt.tokens_of("lion") == std::vector<std::int64_t>{2, 5});
  REQUIRE(prompt.find("Lion").empty());
  CHECK_THROWS_WITH(prompt.tokens_of("tiger"),
                    "word 'tiger': expected one of the prompt's words (a, lion, and, a, lion), found none such");
}

TEST_CASE("Words that the context has no room for have no tokens", "[attention]") {
  const auto prompt = words("one two three four", 5);
  REQUIRE(prompt.ids().size() == 3);
  REQUIRE(prompt.tokens_of(2) == std::vector<std::int64_t>{3});
  REQUIRE(prompt.tokens_of(3).empty());
  // A word swap leaves them alone.
  const auto swapped = swap_alignment(prompt, words("one two three five", 5));
  CHECK(swapped.equal(at::eye(5)));
}

TEST_CASE("A prompt is read through any tokenizer", "[attention]") {
  const auto prompt = prompt_tokens(Syllables{}, "lala la  la");
  REQUIRE(prompt.length() == 9);
  REQUIRE(prompt.words() == std::vector<std::string>{"lala", "la", "la"});
  REQUIRE(prompt.tokens_of(0) == std::vector<std::int64_t>{1, 2});
  REQUIRE(prompt.tokens_of(1) == std::vector<std::int64_t>{3});
}

TEST_CASE("PromptTokens refuses a number of pieces other than that of the tokens, and no room", "[attention]") {
  CHECK_THROWS_WITH(PromptTokens("a", {1, 2}, {"a"}), "PromptTokens: pieces: expected 2, one per token, found 1");
  CHECK_THROWS_WITH(PromptTokens("a", {1}, {"a"}, 1), "PromptTokens: length: expected at least 2, found 1");
}

TEST_CASE("A word swap's matrix is that of google/prompt-to-prompt", "[attention]") {
  REQUIRE(fixture()["swaps"].size() == 7);
  for (const auto& pair : fixture()["swaps"]) {
    INFO(pair["edited"]["text"]);
    at::Tensor expected = at::eye(77);
    for (const auto& entry : pair["matrix"]) {
      expected[entry[0].get<std::int64_t>()][entry[1].get<std::int64_t>()] = entry[2].get<float>();
    }
    CHECK(swap_alignment(golden_prompt(pair["source"]), golden_prompt(pair["edited"])).equal(expected));
  }
}

TEST_CASE("A word swap refuses a different number of words, and contexts of other lengths", "[attention]") {
  CHECK_THROWS_WITH(swap_alignment(words("a cat"), words("a fat cat")),
                    "word swap: expected prompts of equally many words, found 2 and 3");
  CHECK_THROWS_WITH(swap_alignment(words("a cat"), words("a dog", 20)),
                    "prompts: expected contexts of one length, found 77 and 20 tokens");
}

TEST_CASE("A refinement's mapper is that of google/prompt-to-prompt", "[attention]") {
  REQUIRE(fixture()["refinements"].size() == 7);
  for (const auto& pair : fixture()["refinements"]) {
    INFO(pair["edited"]["text"]);
    const auto found = refine_alignment(golden_prompt(pair["source"]), golden_prompt(pair["edited"]));
    const auto mapper = pair["mapper"].get<std::vector<std::int64_t>>();
    CHECK(found.mapper.equal(at::tensor(mapper, at::kLong)));
    CHECK(found.alphas.equal(testing::golden_tensor(pair["alphas"], {77})));
  }
}

TEST_CASE("An equalizer scales the tokens of its words", "[attention]") {
  const auto prompt = golden_prompt(fixture()["swaps"][0]["edited"]);
  at::Tensor expected = at::ones({77});
  for (const auto i : {5, 6, 7}) expected[i] = 2.5F;
  expected[2] = -1.0F;
  CHECK(equalizer(prompt, {{"chinchilla", 2.5}, {"photo", -1.0}}).equal(expected));
  CHECK_THROWS_WITH(equalizer(prompt, {{"dog", 2.0}}), Catch::Matchers::Contains("word 'dog'"));
}

TEST_CASE("Windows of steps are those of google/prompt-to-prompt", "[attention]") {
  std::vector<PromptTokens> edited;
  for (const std::size_t i : {1, 2}) edited.push_back(golden_prompt(fixture()["prompts"][i]));
  REQUIRE(fixture()["windows"].size() == 4);
  for (const auto& run : fixture()["windows"]) {
    StepWindow common;
    std::vector<std::pair<std::string, StepWindow>> by_word;
    for (const auto& [word, range] : run["windows"].items()) {
      const StepWindow window{range[0].get<double>(), range[1].get<double>()};
      if (word == "default_") {
        common = window;
      } else {
        by_word.emplace_back(word, window);
      }
    }
    const auto windows = word_windows(edited, common, by_word);
    const auto steps = run["steps"].get<std::int64_t>();
    INFO(run["windows"]);
    for (std::int64_t i = 0; i < steps; ++i) {
      for (std::int64_t d = 0; d < 2; ++d) {
        at::Tensor expected = at::ones({77});
        for (const auto& token : run["closed"][static_cast<std::size_t>(i)][static_cast<std::size_t>(d)]) {
          expected[token.get<std::int64_t>()] = 0.0F;
        }
        CHECK(windows.weights(d, 77, {.index = i, .count = steps}).equal(expected));
      }
    }
  }
}

TEST_CASE("Windows refuse words that no prompt has, and positions out of range", "[attention]") {
  const std::vector<PromptTokens> edited{words("a dog")};
  CHECK_THROWS_WITH(word_windows(edited, {}, {{"cat", {}}}),
                    "windows: expected words of the edited prompts, found 'cat'");
  const TokenWindows windows{.words = {{0, {77}, {}}}};
  CHECK_THROWS_WITH(windows.weights(0, 77, {}), "windows: token: expected 0 ... 76, found 77");
}
