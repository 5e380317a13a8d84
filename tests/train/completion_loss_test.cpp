#include "ip2p/train/completion_loss.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ip2p/language/gpt2_files.hpp"
#include "ip2p/language/gpt2_language_model.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

namespace {

using ip2p::CompletionLoss;
using ip2p::CompletionPair;
using ip2p::testing::fixture;

ip2p::Gpt2Tokenizer tokenizer() { return ip2p::Gpt2Tokenizer::open(fixture("language/fixtures/tiny-gpt2")); }
ip2p::Gpt2 published() { return ip2p::load_gpt2(fixture("language/fixtures/tiny-gpt2")); }

std::vector<CompletionPair> golden_pairs(const nlohmann::json& numbers) {
  std::vector<CompletionPair> pairs;
  for (const auto& row : numbers["pairs"]) {
    pairs.push_back({row["prompt"].get<std::string>(), row["completion"].get<std::string>()});
  }
  return pairs;
}

/// Two colours, so that the answer depends on the prompt.
std::vector<CompletionPair> colours() {
  return {{"red\n##\n", "make it blue\n%%\nblue\nEND"}, {"blue\n##\n", "make it red\n%%\nred\nEND"}};
}

ip2p::Gpt2 fresh() {
  ip2p::Gpt2 model({.vocab_size = 600, .n_positions = 64, .n_embd = 32, .n_layer = 2, .n_head = 2});
  ip2p::initialise(model.module(), 3);
  return model;
}

std::vector<std::string> answers(const ip2p::Gpt2& model) {
  const ip2p::Gpt2LanguageModel language(tokenizer(), model);
  std::vector<std::string> texts;
  for (const auto& pair : colours()) {
    texts.push_back(language
                        .complete(std::vector<ip2p::CompletionRequest>{{pair.prompt, 0}},
                                  {.max_tokens = 40, .temperature = 0, .stop = {"\nEND"}})[0]
                        .text);
  }
  return texts;
}

}  // namespace

TEST_CASE("CompletionLoss and its gradients equal transformers', on the completions alone", "[train]") {
  const auto numbers = ip2p::testing::read_json(fixture("language/fixtures/expected.json"));
  const auto model = published();
  ip2p::Parameters parameters;
  parameters.add(model.module(), "model");
  const CompletionLoss loss(model, tokenizer(), golden_pairs(numbers), {.batch = 3});
  const auto value = loss(0);
  CHECK(value.item<double>() == Approx(numbers["loss"].get<double>()).epsilon(1e-5));
  value.backward();
  REQUIRE(numbers["gradient_norms"].size() == parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto name = parameters.names[i].substr(6);
    CAPTURE(name);
    const auto norm = parameters.tensors[i].grad().norm().item<double>();
    CHECK(norm == Approx(numbers["gradient_norms"][name].get<double>()).epsilon(1e-4));
  }
}

TEST_CASE("CompletionLoss of a batch is the mean over its parts", "[train]") {
  const auto numbers = ip2p::testing::read_json(fixture("language/fixtures/expected.json"));
  const CompletionLoss loss(published(), tokenizer(), golden_pairs(numbers), {.batch = 6, .seed = 4});
  for (std::int64_t step = 0; step < 2; ++step) {
    const auto whole = loss(step).item<double>();
    for (const std::int64_t parts : {2, 3, 6}) {
      double sum = 0;
      for (std::int64_t part = 0; part < parts; ++part) sum += loss(step, part, parts).item<double>();
      CHECK(sum / static_cast<double>(parts) == Approx(whole).epsilon(1e-5));
    }
  }
  CHECK_THROWS_WITH(loss(0, 0, 4), "completion loss: expected a batch in equal parts, found 6 pairs in 4");
  CHECK_THROWS_WITH(CompletionLoss(published(), tokenizer(), {}, {}),
                    "completion pairs: expected at least one, found 0");
  CHECK_THROWS_WITH(CompletionLoss(published(), tokenizer(), colours(), {.batch = 0}),
                    "completion loss: batch: expected at least 1, found 0");
  const CompletionLoss empty(published(), tokenizer(), {{"", "a"}}, {.batch = 1});
  CHECK_THROWS_WITH(empty(0), "completion pair 1: expected tokens in prompt and completion, found 0 and 1");
  const CompletionLoss longer(published(), tokenizer(), {{"a", std::string(97, '~')}}, {.batch = 1});
  CHECK_THROWS_WITH(longer(0), Contains("completion pair 1: expected at most 97 tokens, found 98"));
}

TEST_CASE("A GPT-2 learns two completions by heart, with all weights and with a LoRA", "[train]") {
  const auto expected = std::vector<std::string>{"make it blue\n%%\nblue", "make it red\n%%\nred"};
  const auto model = fresh();
  ip2p::Parameters parameters;
  parameters.add(model.module(), "model");
  const CompletionLoss loss(model, tokenizer(), colours(), {.batch = 2});
  ip2p::Trainer run(parameters, loss, ip2p::ConstantRate{3e-3}, {.ema_decay = 0.9});
  run.run(150);
  CHECK(run.curve().points().back().loss < 0.05);
  CHECK(answers(model) == expected);

  // A LoRA teaches the same model the opposite; without the LoRA it is as before.
  const std::vector<CompletionPair> opposite{{"red\n##\n", "make it red\n%%\nred\nEND"},
                                             {"blue\n##\n", "make it blue\n%%\nblue\nEND"}};
  const auto before = model.module().layers[0]->c_attn->weight.detach().clone();
  auto lora = ip2p::new_lora(model, {.rank = 4, .alpha = 8, .layers = {"c_attn", "c_proj", "c_fc"}, .seed = 1});
  const auto paths = ip2p::Parameters().add(lora);
  CHECK(paths.names.front() == "language_model.h.0.attn.c_attn.lora_down.weight");
  CHECK(paths.elements() < parameters.elements() / 3);
  const CompletionLoss other(model, tokenizer(), opposite, {.batch = 2});
  ip2p::Trainer second(paths, other, ip2p::ConstantRate{1e-2}, {.ema_decay = 0.9});
  second.run(150);
  CHECK(answers(model) == std::vector<std::string>{expected[1], expected[0]});
  CHECK(ip2p::testing::max_difference(model.module().layers[0]->c_attn->weight, before) == 0);
  lora.remove();
  CHECK(answers(model) == expected);
}
