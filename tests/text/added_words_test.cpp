#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/io/model_files.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

// Expected values: transformers, by tests/parity/make_added_word_fixtures.py.

namespace {

namespace fs = std::filesystem;
using ip2p::BpeTokenizer;

nlohmann::json json_of(const fs::path& path) { return nlohmann::json::parse(std::ifstream(path)); }

/// What transformers writes into a tokenizer.json beside the added tokens, as far as it differs between tokenizers.
nlohmann::json whole_tokenizer(const fs::path& folder) {
  nlohmann::json merges = nlohmann::json::array();
  std::ifstream lines(folder / "merges.txt");
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  return {{"model",
           {{"type", "BPE"},
            {"end_of_word_suffix", "</w>"},
            {"vocab", json_of(folder / "vocab.json")},
            {"merges", merges}}}};
}

}  // namespace

TEST_CASE("Added words are found wherever transformers finds them", "[text][parity]") {
  const auto source = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p/tokenizer");
  const auto expected = json_of(ip2p::testing::fixture("text/fixtures/added-words.json"));
  const auto texts = expected.at("texts").get<std::vector<std::string>>();
  for (const auto& entry : expected.at("cases")) {
    INFO(entry.at("name"));
    const ip2p::testing::ScratchDir scratch;
    const auto folder = scratch / "tokenizer";
    fs::copy(source, folder);
    const auto whole = whole_tokenizer(folder);
    for (const auto& [name, change] : entry.at("files").items()) {
      if (change.is_null()) {
        fs::remove(folder / name);
        continue;
      }
      auto content = name == "tokenizer.json"    ? whole
                     : fs::exists(folder / name) ? json_of(folder / name)
                                                 : nlohmann::json::object();
      content.update(change);
      std::ofstream(folder / name) << content;
    }
    const auto tokenizer = BpeTokenizer::open(folder);
    // As part of a model, whose files are looked for elsewhere.
    ip2p::ModelFilesOptions options;
    options.tokenizer = folder;
    const auto of_model = BpeTokenizer::open(
        ip2p::ModelFiles::open(ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p"), options).tokenizer());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      INFO(texts[i]);
      const auto ids = entry.at("ids").at(i).get<std::vector<std::int64_t>>();
      CHECK(tokenizer.tokenize(texts[i]) == ids);
      CHECK(of_model.tokenize(texts[i]) == ids);
    }
  }
}

TEST_CASE("The released tokenizer finds added words as they are written", "[text]") {
  const auto source = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p/tokenizer");
  const ip2p::testing::ScratchDir scratch;
  const auto folder = scratch / "tokenizer";
  fs::copy(source, folder);
  const auto first = static_cast<std::int64_t>(json_of(folder / "vocab.json").size());
  std::ofstream(folder / "added_tokens.json") << nlohmann::json{{"<Cat-Toy>", first}};
  const auto tokenizer = BpeTokenizer::open(folder, {.text = ip2p::TokenizerText::released});
  CHECK(tokenizer.tokenize("make it <Cat-Toy>").back() == first);
  CHECK(tokenizer.tokenize("make it <cat-toy>").size() > 3);
}

TEST_CASE("Unsound added words are refused with their file", "[text]") {
  const auto source = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p/tokenizer");
  for (const auto& [content, message] :
       {std::pair{R"({"<a>": 9000})", "expected id 1514, the next one of the vocabulary, found 9000"},
        std::pair{R"({"<a>": "x"})", "added_tokens.json: '<a>': expected an integer id, found \"x\""}}) {
    const ip2p::testing::ScratchDir scratch;
    fs::copy(source, scratch / "tokenizer");
    std::ofstream(scratch / "tokenizer" / "added_tokens.json") << content;
    CHECK_THROWS_WITH(BpeTokenizer::open(scratch / "tokenizer"), Contains(message));
  }
}

TEST_CASE("A byte order mark before a tokenizer's files is passed over", "[text]") {
  const auto source = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p/tokenizer");
  const ip2p::testing::ScratchDir scratch;
  fs::copy(source, scratch / "tokenizer");
  for (const char* name : {"merges.txt", "vocab.json", "tokenizer_config.json"}) {
    std::ifstream in(source / name, std::ios::binary);
    std::ofstream(scratch / "tokenizer" / name, std::ios::binary) << "\xEF\xBB\xBF" << in.rdbuf();
  }
  CHECK(BpeTokenizer::open(scratch / "tokenizer").tokenize("make it snowy") ==
        BpeTokenizer::open(source).tokenize("make it snowy"));
}
