#include "ip2p/language/gpt2.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/language/gpt2_files.hpp"
#include "ip2p/language/gpt2_language_model.hpp"
#include "ip2p/language/sampling.hpp"
#include "ip2p/testing/check_language_model.hpp"
#include "support/catch.hpp"
#include "support/hub_cache.hpp"
#include "support/reference.hpp"

namespace {

using ip2p::Completion;
using ip2p::CompletionOptions;
using ip2p::CompletionRequest;
using ip2p::FinishReason;
using ip2p::Gpt2LanguageModel;
using ip2p::testing::fixture;
using ip2p::testing::max_difference;
using ip2p::testing::read_json;
using ip2p::testing::ScratchDir;
using nlohmann::json;

const ip2p::SafetensorsFile& golden() {
  static const auto file = ip2p::SafetensorsFile::open(fixture("language/fixtures/expected.safetensors"));
  return file;
}

const Gpt2LanguageModel& tiny() {
  static const auto model = Gpt2LanguageModel::open(fixture("language/fixtures/tiny-gpt2"));
  return model;
}

Completion complete(const std::string& prompt, const CompletionOptions& options, std::uint64_t sample = 0) {
  return tiny().complete(std::vector<CompletionRequest>{{prompt, sample}}, options).at(0);
}

std::string error_of(const std::filesystem::path& folder) {
  try {
    ip2p::load_gpt2(folder);
  } catch (const ip2p::Error& error) {
    return error.what();
  }
  return "no error";
}

/// A copy of the tiny model with other tensors and another configuration.
void write_model(const std::filesystem::path& folder, const std::map<std::string, at::Tensor>& weights,
                 const json& config) {
  std::filesystem::create_directories(folder);
  ip2p::write_safetensors(folder / "model.safetensors", weights);
  std::ofstream(folder / "config.json") << config.dump();
}

std::map<std::string, at::Tensor> tiny_weights(const std::string& prefix) {
  const auto file = ip2p::SafetensorsFile::open(fixture("language/fixtures/tiny-gpt2/model.safetensors"));
  std::map<std::string, at::Tensor> weights;
  for (const auto& name : file.names()) {
    weights.emplace(prefix + name.substr(std::string("transformer.").size()), file.tensor(name).clone());
  }
  return weights;
}

json tiny_config() { return read_json(fixture("language/fixtures/tiny-gpt2/config.json")); }

std::vector<CompletionRequest> mixed_requests() {
  return {{"A photo of a cat", 3}, {"x", 4}, {"A much longer caption of many words, by the sea\n##\n", 5}, {"x", 6}};
}

}  // namespace

TEST_CASE("Gpt2 returns GPT2LMHeadModel's logits", "[language]") {
  const at::NoGradGuard no_grad;
  const auto logits = tiny().model()(golden().tensor("tiny_ids"));
  CHECK(max_difference(logits.slice(1, 0, 40, 8), golden().tensor("tiny_logits")) < 1e-4);
  // No prefix, no head, gelu, and an unusual inner width.
  const auto plain = ip2p::load_gpt2(fixture("language/fixtures/plain-gpt2"));
  CHECK(plain.config().inner() == 24);
  CHECK(max_difference(plain.hidden(golden().tensor("plain_ids")), golden().tensor("plain_hidden")) < 1e-4);
}

TEST_CASE("Gpt2 gives the same result token by token as all at once, and does not see padding", "[language]") {
  const at::NoGradGuard no_grad;
  const auto& model = tiny().model();
  const auto ids = golden().tensor("tiny_ids");
  const auto whole = model(ids);
  auto cache = model.start(40, {0, 0});
  CHECK(max_difference(model.next(ids.narrow(1, 0, 17), cache), whole.select(1, 16)) < 1e-4);
  for (std::int64_t i = 17; i < 30; ++i) {
    CHECK(max_difference(model.next(ids.narrow(1, i, 1), cache), whole.select(1, i)) < 1e-4);
  }
  CHECK(max_difference(model.next(ids.narrow(1, 30, 10), cache), whole.select(1, 39)) < 1e-4);
  CHECK_THROWS_WITH(model.next(ids.narrow(1, 0, 1), cache), Contains("expected int64 [B, 1 to 0]"));

  // The second text begins 7 tokens later; the tokens before it are arbitrary.
  const auto padded =
      at::cat({ids[0].unsqueeze(0), at::cat({at::full({7}, 599, at::kLong), ids[1].narrow(0, 0, 33)}).unsqueeze(0)});
  auto mixed = model.start(40, {0, 7});
  const auto first = model.next(padded.narrow(1, 0, 20), mixed);
  CHECK(max_difference(first[0], whole[0][19]) < 1e-4);
  CHECK(max_difference(first[1], whole[1][12]) < 1e-4);
  model.next(padded.narrow(1, 20, 5), mixed);
  mixed.keep({1});
  CHECK(max_difference(model.next(padded.narrow(1, 25, 1).narrow(0, 1, 1), mixed)[0], whole[1][18]) < 1e-4);
}

TEST_CASE("Gpt2 refuses ids that it has no embedding for, and texts longer than its positions", "[language]") {
  const at::NoGradGuard no_grad;
  const auto& model = tiny().model();  // 600 tokens, 96 positions
  const auto with = [](std::int64_t id) {
    auto ids = at::ones({2, 5}, at::kLong);
    ids[0][4] = id;
    return ids;
  };
  CHECK(model(with(599)).size(2) == 600);
  CHECK_THROWS_WITH(model(with(600)), Contains("Gpt2: ids: expected ids from 0 to 599, found 600 in text 0, token 4"));
  CHECK_THROWS_WITH(model.hidden(with(-1)), Contains("expected ids from 0 to 599, found -1"));
  CHECK_THROWS_WITH(model(at::ones({2, 5})), Contains("expected int64 [B, 1 to 96], found [2, 5] of Float"));
  CHECK_THROWS_WITH(model(at::ones({5}, at::kLong)), Contains("found [5] of Long"));
  CHECK_THROWS_WITH(model(at::Tensor()), Contains("found no tensor"));
  CHECK_THROWS_WITH(model.logits(at::ones({2, 23})), Contains("Gpt2: hidden: expected [..., 24], found [2, 23]"));

  auto cache = model.start(40, {0, 3});
  CHECK_THROWS_WITH(model.next(with(600), cache), Contains("expected ids from 0 to 599, found 600"));
  CHECK(cache.length() == 0);
  CHECK_THROWS_WITH(model.next(at::ones({3, 1}, at::kLong), cache), Contains("expected 2 texts"));
  // A cache may be longer than the positions because of its padding, a text may not.
  auto roomy = model.start(120, {0, 20});
  model.next(at::ones({2, 90}, at::kLong), roomy);
  CHECK_THROWS_WITH(model.next(at::ones({2, 7}, at::kLong), roomy),
                    Contains("expected texts of at most 96 tokens, found 7 more after 90"));
  roomy.keep({1});
  CHECK(model.next(at::ones({1, 7}, at::kLong), roomy).size(0) == 1);
}

TEST_CASE("A cache of keys and values refuses what does not fit", "[language]") {
  const auto& model = tiny().model();
  CHECK_THROWS_WITH(model.start(0, {0}), Contains("a capacity of 0"));
  CHECK_THROWS_WITH(model.start(8, {}), Contains("expected at least one text, found none"));
  CHECK_THROWS_WITH(model.start(8, {0, 8}), Contains("padding: expected 0 to 7 tokens, found 8"));
  CHECK_THROWS_WITH(model.start(8, {-1}), Contains("padding: expected 0 to 7 tokens, found -1"));
  auto cache = model.start(8, {0, 0});
  CHECK_THROWS_WITH(cache.keep({}), Contains("rows: expected at least one"));
  CHECK_THROWS_WITH(cache.keep({0, 2}), Contains("rows: expected 0 to 1, found 2"));
  CHECK(cache.batch() == 2);
  ip2p::KeyValueCache foreign(3, 2, 4, 8, {0, 0}, at::TensorOptions(at::kFloat));
  CHECK_THROWS_WITH(model.next(at::ones({2, 1}, at::kLong), foreign), Contains("found one for 3, 2 and 4"));
}

TEST_CASE("Gpt2 loads files with and without prefix, head and masks, and writes what transformers reads",
          "[language]") {
  const at::NoGradGuard no_grad;
  const auto expected = tiny().model()(golden().tensor("tiny_ids"));
  const ScratchDir scratch;
  auto weights = tiny_weights("");
  weights.emplace("h.0.attn.bias", at::ones({1, 1, 96, 96}));
  weights.emplace("h.0.attn.masked_bias", at::ones({}));
  weights.emplace("lm_head.weight", weights.at("wte.weight").clone());
  write_model(scratch / "bare", weights, tiny_config());
  const auto bare = ip2p::load_gpt2(scratch / "bare");
  CHECK(max_difference(bare(golden().tensor("tiny_ids")), expected) == 0);

  ip2p::save_gpt2(bare, scratch / "saved");
  const auto saved = ip2p::SafetensorsFile::open(scratch / "saved" / "model.safetensors");
  const auto published = ip2p::SafetensorsFile::open(fixture("language/fixtures/tiny-gpt2/model.safetensors"));
  REQUIRE(saved.names() == published.names());
  for (const auto& name : saved.names()) CHECK(max_difference(saved.tensor(name), published.tensor(name)) == 0);
  const auto config = read_json(scratch / "saved" / "config.json");
  for (const char* key : {"model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner",
                          "activation_function", "layer_norm_epsilon", "architectures"}) {
    CHECK(config[key] == tiny_config()[key]);
  }
  CHECK(ip2p::Gpt2Config::from_json(config, "saved").to_json() == config);
}

TEST_CASE("Gpt2 refuses other architectures and damaged folders", "[language]") {
  const ScratchDir scratch;
  CHECK_THAT(error_of(scratch / "nowhere"), Contains("expected the folder of a GPT-2 model, found none"));
  const auto with = [&](const char* key, const json& value) {
    auto config = tiny_config();
    config[key] = value;
    write_model(scratch / "model", tiny_weights("transformer."), config);
    return error_of(scratch / "model");
  };
  CHECK(with("n_layer", 2) == "no error");
  CHECK_THAT(with("model_type", "llama"), Contains("config.json: model_type: expected gpt2, found llama"));
  CHECK_THAT(with("tie_word_embeddings", false), Contains("tie_word_embeddings: expected true, found false"));
  CHECK_THAT(with("scale_attn_by_inverse_layer_idx", true), Contains("expected false, found true, which is not"));
  CHECK_THAT(with("layer_norm_epsilon", 1e-6), Contains("layer_norm_epsilon: expected 1e-05, found 1e-06"));
  CHECK_THAT(with("activation_function", "relu"), Contains("expected gelu_new, gelu_pytorch_tanh or gelu, found relu"));
  CHECK_THAT(with("n_head", 5), Contains("expected positive sizes and n_embd 24 to be a multiple of n_head 5"));
  CHECK_THAT(with("n_embd", "wide"), Contains("config.json: n_embd: expected a whole number, found \"wide\""));
  CHECK_THAT(with("n_layer", 3), Contains("12 tensors missing, 0 unexpected"));
  CHECK_THAT(with("vocab_size", 1'000'000'000), Contains("vocab_size: expected at most 1000000, found 1000000000"));
  auto weights = tiny_weights("transformer.");
  weights.emplace("wte.weight", at::ones({600, 24}));
  write_model(scratch / "model", weights, tiny_config());
  CHECK_THAT(error_of(scratch / "model"), Contains("tensor 'wte.weight': expected it once"));
  CHECK_THROWS_WITH(tiny().model().hidden(at::ones({1, 97}, at::kLong)), Contains("expected int64 [B, 1 to 96]"));
}

TEST_CASE("Gpt2LanguageModel continues a batch greedily as transformers does, token by token", "[language]") {
  const auto numbers = read_json(fixture("language/fixtures/expected.json"));
  std::vector<CompletionRequest> requests;
  for (const auto& row : numbers["greedy"]) requests.push_back({row["prompt"].get<std::string>(), 0});
  REQUIRE(requests.size() == 4);
  const auto found = tiny().complete(requests, {.max_tokens = 48, .temperature = 0});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].text == numbers["greedy"][i]["text"].get<std::string>());
    CHECK(found[i].tokens == 48);
    CHECK(found[i].finish == FinishReason::length);
  }
  // Each token, also where several bytes become one U+FFFD in the text.
  const auto& tokenizer = tiny().tokenizer();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto ids = numbers["greedy"][i]["ids"].get<std::vector<std::int64_t>>();
    for (std::int64_t n = 1; n <= 48; n += 5) {
      const auto prefix = tiny().complete(std::span(requests).subspan(i, 1), {.max_tokens = n, .temperature = 0});
      CHECK(prefix[0].text == tokenizer.decode(std::span(ids).first(static_cast<std::size_t>(n))));
    }
  }
}

TEST_CASE("token_probabilities equal those of transformers for temperature and top-p", "[language]") {
  const auto scores = golden().tensor("scores").contiguous();
  const std::span<const float> logits(scores.data_ptr<float>(), 600);
  const auto golden_sampling = read_json(fixture("language/fixtures/expected.json"));
  for (const auto& row : golden_sampling["sampling"]) {
    CAPTURE(row.dump());
    const auto p = ip2p::token_probabilities(
        logits, {}, {.temperature = row["temperature"].get<double>(), .top_p = row["top_p"].get<double>()});
    const auto found = at::tensor(at::ArrayRef<double>(p), at::kDouble);
    CHECK(max_difference(found, golden().tensor(row["tensor"].get<std::string>())) < 1e-6);
    CHECK((found > 0).sum().item<std::int64_t>() == row["kept"].get<std::int64_t>());
    CHECK(found.sum().item<double>() == Approx(1.0).epsilon(1e-12));
  }
}

TEST_CASE("Penalties lower a token's logit as OpenAI defines them", "[language]") {
  const std::vector<float> logits{2.0F, 2.0F, 1.5F};
  // 2 - 3 * 0.4 - 0.1 = 0.7; 2; 1.5 - 1 * 0.4 - 0.1 = 1.0
  const auto p =
      ip2p::token_probabilities(logits, {{0, 3}, {2, 1}}, {.frequency_penalty = 0.4, .presence_penalty = 0.1});
  const double sum = std::exp(0.7) + std::exp(2.0) + std::exp(1.0);
  CHECK(p[0] == Approx(std::exp(0.7) / sum));
  CHECK(p[1] == Approx(std::exp(2.0) / sum));
  CHECK(p[2] == Approx(std::exp(1.0) / sum));
  const auto greedy = ip2p::token_probabilities(logits, {{0, 1}}, {.temperature = 0, .presence_penalty = 0.1});
  CHECK(greedy == std::vector<double>{0, 1, 0});
  CHECK(ip2p::token_probabilities(logits, {}, {.temperature = 0}) == std::vector<double>{1, 0, 0});
  CHECK_THROWS_WITH(ip2p::token_probabilities(std::vector<float>{0.0F, NAN}, {}, {}),
                    Contains("expected finite logits"));

  // A text that repeats itself does so less under a large penalty.
  const auto distinct = [&](double penalty) {
    const auto text = complete("x", {.max_tokens = 40, .temperature = 0, .frequency_penalty = penalty}).text;
    const auto ids = tiny().tokenizer().encode(text);
    return std::set<std::int64_t>(ids.begin(), ids.end()).size();
  };
  CHECK(distinct(50.0) > distinct(0.0));
}

TEST_CASE("choose_token draws each token in proportion to its probability", "[language]") {
  const std::vector<double> p{0.1, 0.0, 0.25, 0.65};
  std::vector<double> counts(4);
  constexpr int draws = 20'000;
  for (int i = 0; i < draws; ++i) {
    const auto uniform = ip2p::SampleRandom(7, 0, static_cast<std::uint64_t>(i)).uniform();
    ++counts[static_cast<std::size_t>(ip2p::choose_token(p, uniform))];
  }
  CHECK(counts[1] == 0);
  double chi_square = 0;
  for (const std::size_t i : {0, 2, 3}) {
    chi_square += (counts[i] - draws * p[i]) * (counts[i] - draws * p[i]) / (draws * p[i]);
  }
  CHECK(chi_square < 13.8);  // exceeded by 0.1 % of fair draws, with two degrees of freedom
  CHECK(ip2p::choose_token(p, 0.0) == 0);
  CHECK(ip2p::choose_token(p, 0.1) == 2);
  CHECK(ip2p::choose_token(p, std::nextafter(1.0, 0.0)) == 3);
}

TEST_CASE("Gpt2LanguageModel's samples depend on seed and sample, not on the other requests", "[language]") {
  const CompletionOptions options{
      .max_tokens = 30, .temperature = 0.9, .top_p = 0.95, .frequency_penalty = 0.1, .seed = 5};
  const auto requests = mixed_requests();
  const auto together = tiny().complete(requests, options);
  REQUIRE(together.size() == 4);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    const auto alone = complete(requests[i].prompt, options, requests[i].sample);
    CHECK(alone.text == together[i].text);
    CHECK(alone.tokens == together[i].tokens);
    CHECK(alone.finish == together[i].finish);
  }
  const auto reversed = tiny().complete(std::vector<CompletionRequest>(requests.rbegin(), requests.rend()), options);
  for (std::size_t i = 0; i < requests.size(); ++i) CHECK(reversed[3 - i].text == together[i].text);
  CHECK(together[1].text != together[3].text);  // "x" twice, as samples 4 and 6
  auto other = options;
  other.seed = 6;
  CHECK(tiny().complete(requests, other)[0].text != together[0].text);
  CHECK(tiny().complete({}, options).empty());
}

TEST_CASE("Gpt2LanguageModel keeps the laws of language models", "[language]") {
  ip2p::testing::check_language_model(tiny(), {"A photo of a cat", "x", "A longer caption, by the sea"},
                                      {.max_tokens = 20, .temperature = 1.2, .seed = 9});
}

TEST_CASE("Gpt2LanguageModel ends at stop texts, at the end token and at the end of the context", "[language]") {
  const CompletionOptions greedy{.max_tokens = 48, .temperature = 0};
  const auto whole = complete("A photo of a cat on a sofa\n##\n", greedy).text;
  REQUIRE(whole.starts_with("ifSSSSif"));
  const auto stopped = [&](std::vector<std::string> stop) {
    auto options = greedy;
    options.stop = std::move(stop);
    return complete("A photo of a cat on a sofa\n##\n", options);
  };
  CHECK(stopped({"SS"}).text == "if");
  CHECK(stopped({"SSSSi"}).text == "if");  // spans several tokens, and ends inside the last
  CHECK(stopped({"SSSSi"}).tokens == 6);
  CHECK(stopped({"fS", "SS"}).text == "i");
  CHECK(stopped({"if"}).text.empty());
  CHECK(stopped({"if"}).finish == FinishReason::stop);
  CHECK(stopped({"never"}).text == whole);

  // 96 positions: 1 token of prompt leaves room for 95.
  const auto full = complete("x", {.max_tokens = 500, .temperature = 0});
  CHECK(full.tokens == 95);
  CHECK(full.finish == FinishReason::length);

  // All other tokens have equal, lower logits, so the end token is the likeliest.
  const at::NoGradGuard no_grad;
  auto model = ip2p::load_gpt2(fixture("language/fixtures/tiny-gpt2"));
  model.module().ln_f->weight.zero_();
  model.module().ln_f->bias.copy_(model.module().wte->weight[0] * 1000);
  model.module().wte->weight.slice(0, 1).mul_(0.001);
  const Gpt2LanguageModel ending(tiny().tokenizer(), model);
  const auto ended = ending.complete(std::vector<CompletionRequest>{{"x", 0}}, greedy).at(0);
  CHECK(ended.text.empty());
  CHECK(ended.tokens == 1);
  CHECK(ended.finish == FinishReason::stop);
}

TEST_CASE("Gpt2LanguageModel refuses what it cannot continue, and stops when asked to", "[language]") {
  CHECK_THROWS_WITH(complete("", {}), "prompt 1: expected 1 to 95 tokens, found 0");
  CHECK_THROWS_WITH(complete(std::string(400, '~'), {}), Contains("prompt 1: expected 1 to 95 tokens, found "));
  CHECK_THROWS_WITH(complete("x", {}, std::uint64_t{1} << 32), Contains("sample: expected a number below 2^32"));
  CHECK_THROWS_WITH(complete("x", {.max_tokens = 0}), "max_tokens: expected at least 1, found 0");
  CHECK_THROWS_WITH(complete("x", {.temperature = -1}), "temperature: expected a finite number >= 0, found -1");
  CHECK_THROWS_WITH(complete("x", {.top_p = 0}), "top_p: expected a number in (0, 1], found 0");
  CHECK_THROWS_WITH(complete("x", {.frequency_penalty = NAN}), Contains("frequency_penalty: expected a finite number"));
  CHECK_THROWS_WITH(complete("x", {.presence_penalty = INFINITY}),
                    Contains("presence_penalty: expected a finite number"));
  CHECK_THROWS_WITH(complete("x", {.stop = {""}}), "stop: expected texts, found an empty one");
  std::stop_source stop;
  stop.request_stop();
  CHECK_THROWS_AS(complete("x", {.cancel = stop.get_token()}), ip2p::Cancelled);
  auto config = ip2p::Gpt2Config::from_json(tiny_config(), "tiny");
  config.vocab_size = 500;
  CHECK_THROWS_WITH(Gpt2LanguageModel(tiny().tokenizer(), ip2p::Gpt2(config)),
                    "Gpt2LanguageModel: expected a tokenizer of at most 500 tokens, found 600");
}

TEST_CASE("Gpt2LanguageModel opens what transformers has downloaded, by name", "[language]") {
  const ScratchDir cache;
  const ip2p::testing::Environment only(ip2p::testing::only_cache(cache.path()));
  const auto folder = fixture("language/fixtures/tiny-gpt2");
  ip2p::testing::add_to_cache(cache / "models--tiny", folder, std::string(40, 'a'));
  const std::vector<CompletionRequest> one{{"a photograph of", 0}};
  const auto expected = Gpt2LanguageModel::open(folder).complete(one, {.max_tokens = 8});
  CHECK(Gpt2LanguageModel::open("tiny").complete(one, {.max_tokens = 8}).front().text == expected.front().text);
  CHECK_THROWS_WITH(Gpt2LanguageModel::open("someone/else"),
                    "someone/else: expected a folder with a tokenizer, found none");
}
