#include "ip2p/text/textual_inversion.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/pipeline/load.hpp"
#include "support/reference.hpp"

// Expected values: diffusers' load_textual_inversion, by tests/parity/make_lora_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

ClipTextEncoder encoder(at::ScalarType dtype = at::kFloat) {
  return load<ClipTextEncoder>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.dtype = dtype});
}

TextualInversion embedding(const std::string& name) {
  return TextualInversion::open(fixture("text/fixtures/" + name + ".safetensors"));
}

/// The three embeddings in the script's order.
void add_all(ClipTextEncoder& text) {
  for (const std::string name : {"embedding-cat-toy", "embedding-dog", "moody-light"}) {
    text.add_embedding(embedding(name));
  }
}

std::vector<std::string> prompts() {
  std::vector<std::string> result;
  for (const auto& row : read_json(fixture("text/fixtures/embeddings-expected.json"))) {
    result.push_back(row.at("prompt").get<std::string>());
  }
  return result;
}

at::Tensor expected(const char* name) {
  return SafetensorsFile::open(fixture("text/fixtures/embeddings-expected.safetensors")).tensor(name);
}

std::string refusal(const TextualInversion& inversion) {
  auto text = encoder();
  return error_of([&] { text.add_embedding(inversion); });
}

}  // namespace

TEST_CASE("Prompts with embeddings have diffusers' ids and hidden states", "[text][parity]") {
  const at::NoGradGuard no_grad;
  auto text = encoder();
  add_all(text);
  const auto all = prompts();
  CHECK(at::equal(text.ids(all), expected("ids")));
  const auto hidden = expected("hidden");
  CHECK(max_difference(text.encode(std::span(all).first(4)), hidden) < 1e-4 * deviation(hidden));
  const auto rows = read_json(fixture("text/fixtures/embeddings-expected.json"));
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(text.tokenizer().decode(text.tokenizer().tokenize(all[i])) == rows.at(i).at("decoded").get<std::string>());
  }
  const auto cut = text.tokenizer().encode(all.back());
  CHECK(cut.truncated);
  CHECK(cut.count == 90);
}

TEST_CASE("Prompts without the new words are encoded to the same bits as before", "[text]") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kHalf}) {
    auto text = encoder(dtype);
    const std::vector<std::string> others{"", "make it snowy", "the cat-toy, a <cat toy> and <do g>"};
    const auto before = text.encode(others);
    add_all(text);
    CHECK(at::equal(text.encode(others), before));
    CHECK(text.model().module().token_embedding->weight.scalar_type() == dtype);
    CHECK(text.model().config().vocab_size == 1514 + 6);
    CHECK(text.tokenizer().vocabulary_size() == 1514 + 6);
  }
}

TEST_CASE("Embedding files of diffusers and of the web UI are read", "[text]") {
  const auto cat = embedding("embedding-cat-toy");
  CHECK(cat.word == "<cat-toy>");
  CHECK(cat.vectors.sizes() == at::IntArrayRef({3, 32}));
  CHECK(cat.vectors.scalar_type() == at::kFloat);
  const auto dog = embedding("embedding-dog");
  CHECK(dog.word == "<dog>");
  CHECK(dog.vectors.sizes() == at::IntArrayRef({1, 32}));
  CHECK(embedding("moody-light").word == "moody-light");
  CHECK(TextualInversion::open(fixture("text/fixtures/moody-light.safetensors"), "<gloom>").word == "<gloom>");
}

TEST_CASE("Embeddings that were saved as pickles are read in all three layouts", "[text]") {
  const auto expected = SafetensorsFile::open(fixture("io/fixtures/pickles/expected.safetensors"));
  const auto check = [&](const std::string& file, const std::string& tensor, const std::string& word) {
    const auto embedding = TextualInversion::open(fixture("io/fixtures/pickles/" + file));
    CHECK(embedding.word == word);
    const auto vectors = expected.tensor(file + "/" + tensor);
    CHECK(at::equal(embedding.vectors, vectors.dim() == 1 ? vectors.unsqueeze(0) : vectors));
  };
  check("embedding_diffusers.bin", "<cat-toy>", "<cat-toy>");
  check("embedding_web_ui.pt", "string_to_param.*", "embedding_web_ui");
  check("embedding_ldm.pt", "string_to_param.*", "embedding_ldm");
}

TEST_CASE("Embedding files that are something else are refused", "[text]") {
  const ScratchDir scratch;
  const auto path = scratch / "x.safetensors";
  const auto opening = [&](const std::map<std::string, at::Tensor>& tensors) {
    write_safetensors(path, tensors);
    return error_of([&] { static_cast<void>(TextualInversion::open(path)); });
  };
  CHECK_THAT(opening({{"a", at::ones({2, 4})}, {"b", at::ones({2, 4})}}),
             Contains("expected an embedding: one tensor under the name of its word, or 'emb_params'; found 2 tensors, "
                      "'a' first"));
  CHECK_THAT(opening({}), Contains("found 0 tensors"));
  CHECK_THAT(opening({{"clip_l", at::ones({2, 4})}, {"clip_g", at::ones({2, 4})}}), Contains("Stable Diffusion XL"));
  CHECK_THAT(opening({{"<x>", at::ones({2, 2, 4})}}),
             Contains("tensor '<x>': expected floating-point vectors [n, width], found Float [2, 2, 4]"));
  CHECK_THAT(opening({{"<x>", at::ones({2, 4}, at::kLong)}}), Contains("found Long [2, 4]"));
  CHECK_THAT(opening({{"<x>", at::ones({0, 4})}}), Contains("found Float [0, 4]"));
  CHECK_THAT(opening({{"<x>", at::ones({1, 4}) * std::numeric_limits<double>::quiet_NaN()}}),
             Contains("tensor '<x>' holds 4 NaN"));
}

TEST_CASE("An embedding that does not fit the text encoder is refused, and nothing changes", "[text]") {
  CHECK(refusal({"<x>", at::ones({2, 768})}) ==
        "embedding '<x>': expected vectors of width 32, found 768 (Stable Diffusion 1)");
  CHECK_THAT(refusal({"<x>", at::ones({2, 1024})}), Contains("found 1024 (Stable Diffusion 2)"));
  CHECK_THAT(refusal({"<x>", at::ones({76, 32})}), Contains("expected 1 to 75 vectors [n, 32], found [76, 32]"));
  CHECK_THAT(refusal({"<x>", at::Tensor()}), Contains("found none"));
  CHECK_THAT(refusal({"", at::ones({1, 32})}), Contains("token '': expected a word without white space around it"));
  CHECK_THAT(refusal({" x", at::ones({1, 32})}), Contains("token ' x': expected a word without white space around it"));
  CHECK_THAT(refusal({"\xff", at::ones({1, 32})}), Contains("expected UTF-8"));
  // A token of the vocabulary, at the end of a word or inside one, in any case.
  for (const std::string word : {"photo", "Photo", "it", "<|endoftext|>", "!"}) {
    CHECK_THAT(refusal({word, at::ones({1, 32})}),
               Contains("token '" + word + "': expected a new word, but '") && Contains("choose another word"));
  }

  auto text = encoder();
  add_all(text);
  for (const std::string word : {"<cat-toy>", "<CAT-TOY>", "<cat-toy>_1", "moody-light"}) {
    CHECK_THROWS_WITH(text.add_embedding({word, at::ones({1, 32})}), Contains("expected a new word, but"));
  }
  CHECK_THROWS_WITH(text.add_embedding({"<y>", at::ones({1, 31})}), Contains("expected vectors of width 32, found 31"));
  CHECK(text.model().config().vocab_size == 1520);
  CHECK(at::equal(text.ids(prompts()), expected("ids")));
}

TEST_CASE("Two encoders that share a model cannot give two vectors to one id", "[text]") {
  auto first = encoder();
  auto second = first;
  first.add_embedding({"<x>", at::ones({2, 32})});
  CHECK_THROWS_WITH(second.add_embedding({"<y>", at::ones({1, 32})}),
                    Contains("another text encoder that shares this model has added some"));
  CHECK(second.tokenizer().vocabulary_size() == 1514);
  auto third = first;
  CHECK_NOTHROW(third.add_embedding({"<y>", at::ones({1, 32})}));
}

TEST_CASE("A text encoder that is loaded on demand gets its embeddings each time", "[text]") {
  const at::NoGradGuard no_grad;
  int loads = 0;
  const OnDemand<ClipTextEncoder> text(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {},
                                       [&](const ModelFiles& files, const LoadOptions& how) {
                                         auto loaded = load<ClipTextEncoder>(files, how);
                                         ++loads;
                                         add_all(loaded);
                                         return loaded;
                                       });
  const auto all = prompts();
  const auto hidden = expected("hidden");
  for (int i = 1; i <= 2; ++i) {
    CHECK(max_difference(text.encode(std::span(all).first(4)), hidden) < 1e-4 * deviation(hidden));
    CHECK(loads == i);
  }
}
