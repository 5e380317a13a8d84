#include "ip2p/pipeline/prompt_to_prompt.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/any_token_edit.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/refine.hpp"
#include "ip2p/attention/reweight.hpp"
#include "ip2p/attention/word_swap.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/sampling/ddim.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

// Expected values: Prompt-to-Prompt with attention maps that are computed in full, stored and edited, over diffusers'
// models and DDIM scheduler, by tests/parity/make_inversion_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// The published sampler.
auto tiny_ddim(double eta = 0.0) {
  return tiny_inverter(Ddim{.eta = eta, .final_sigma = ddim_schedule({}).training.sigma_min()});
}

std::vector<PromptTokens> tokens_of(const std::vector<std::string>& prompts) {
  static const auto encoder = load<ClipTextEncoder>(tiny_files());
  std::vector<PromptTokens> result;
  for (const auto& one : prompts) result.push_back(prompt_tokens(encoder.tokenizer(), one));
  return result;
}

PromptToPrompt<AnyTokenEdit> swap(const std::vector<std::string>& prompts) {
  const auto tokens = tokens_of(prompts);
  return {AnyTokenEdit(WordSwap::between(tokens[0], std::span(tokens).subspan(1)))};
}

/// One case of the fixture: what the reference was given and what it returned.
struct PromptCase {
  explicit PromptCase(nlohmann::json settings_) : settings(std::move(settings_)), name(settings.at("name")) {
    prompts = settings.at("prompts").get<std::vector<std::string>>();
    tokens = tokens_of(prompts);
    run.steps = settings.at("steps").get<std::int64_t>();
    run.size = Size{24 * 8, 16 * 8};
    run.numerics = Numerics::diffusers;
    if (settings.contains("seed")) run.seed = settings.at("seed").get<std::uint64_t>();
    if (!settings.contains("blend")) return;
    LocalBlend blend{.words = {}, .threshold = settings.at("threshold").get<double>()};
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      blend.words.push_back(tokens[i].tokens_of(settings.at("blend")[i].get<std::string>()));
    }
    options.blend = std::move(blend);
  }

  [[nodiscard]] PromptToPrompt<AnyTokenEdit> attention() const {
    const auto edited = std::span(tokens).subspan(1);
    const auto window = [&](const std::string& key, StepWindow otherwise) -> StepWindow {
      return settings.contains(key) ? StepWindow{settings[key][0], settings[key][1]} : otherwise;
    };
    std::vector<std::pair<std::string, StepWindow>> words;
    const auto by_word = settings.value("word_windows", nlohmann::json::object());
    for (const auto& [word, share] : by_word.items()) {
      words.push_back({word, {share[0], share[1]}});
    }
    PromptToPrompt<AnyTokenEdit> result{edit(edited), word_windows(edited, window("cross", {0.0, 0.8}), words)};
    result.self = window("self", result.self);
    result.max_tokens = settings.value("max_tokens", result.max_tokens);
    return result;
  }

  [[nodiscard]] at::Tensor tensor(const std::string& key) const {
    static const auto file = SafetensorsFile::open(fixture("pipeline/fixtures/prompt-to-prompt-expected.safetensors"));
    return file.tensor(name + "." + key);
  }

  /// Largest difference of the latents, relative to their deviation.
  [[nodiscard]] double difference(const at::Tensor& found) const {
    return max_difference(found, tensor("latents")) / deviation(tensor("latents"));
  }

  nlohmann::json settings;
  std::string name;
  std::vector<std::string> prompts;
  std::vector<PromptTokens> tokens;
  PromptToPromptOptions options;
  RunSettings run;

 private:
  [[nodiscard]] AnyTokenEdit edit(std::span<const PromptTokens> edited) const {
    const auto kind = settings.at("edit").get<std::string>();
    if (kind == "swap") return AnyTokenEdit(WordSwap::between(tokens[0], edited));
    const auto refine = Refine::between(tokens[0], edited);
    if (kind == "refine") return AnyTokenEdit(refine);
    std::vector<std::pair<std::string, double>> scales;
    for (const auto& [word, scale] : settings.at("scales").items()) scales.emplace_back(word, scale);
    if (kind == "reweight") return AnyTokenEdit(Reweight{equalizer(edited[0], scales)});
    REQUIRE(kind == "refine,reweight");
    return AnyTokenEdit(Reweight{equalizer(edited[0], scales), refine});
  }
};

std::vector<PromptCase> prompt_cases(bool of_photographs) {
  std::vector<PromptCase> result;
  for (const auto& entry : read_json(fixture("pipeline/fixtures/prompt-to-prompt-cases.json"))) {
    if (entry.contains("inner") == of_photographs) result.emplace_back(entry);
  }
  REQUIRE(!result.empty());
  return result;
}

const std::vector<std::string> cat_and_dog{"a cat on the grass", "a dog on the grass"};
const RunSettings quick_prompts{.steps = 3, .seed = 7, .resolution = 64};

}  // namespace

TEST_CASE("prompt_to_prompt equals edits of explicit attention maps", "[pipeline][parity]") {
  auto pipeline = tiny_ddim();
  for (const auto& c : prompt_cases(false)) {
    INFO(c.name);
    const auto found = prompt_to_prompt(pipeline, c.prompts, c.attention(), c.options, c.run);
    CHECK(c.difference(found.latents) < 1e-4);
    CHECK(found.images.size() == c.prompts.size());
  }
}

TEST_CASE("prompt_to_prompt on a photograph equals edits of explicit attention maps over its inversion",
          "[pipeline][parity]") {
  auto pipeline = tiny_inverter();  // its sampler plays no part
  for (const auto& c : prompt_cases(true)) {
    INFO(c.name);
    const auto inversion = invert(pipeline, from_tensor(c.tensor("photos")[0]), c.prompts[0], {},
                                  {.steps = c.run.steps, .numerics = Numerics::diffusers});
    const auto found = prompt_to_prompt(pipeline, inversion, c.tensor("texts"), c.prompts, c.attention());
    CHECK(c.difference(found.latents) < 5e-4);  // a difference at the start grows 170 times on the way

    const auto texts = null_text(pipeline, inversion, {.inner_steps = c.settings.at("inner")}).texts;
    const auto own = prompt_to_prompt(pipeline, inversion, texts, c.prompts, c.attention());
    CHECK(c.difference(own.latents) < 1e-3);
    CHECK(found.images.size() == c.prompts.size());
  }
}

TEST_CASE("The source of a group is the same as the picture of its prompt alone, and a second run gives the same bits",
          "[pipeline]") {
  auto pipeline = tiny_ddim();
  PromptToPromptOptions options;
  auto run = quick_prompts;
  const auto tokens = tokens_of(cat_and_dog);
  options.blend = LocalBlend{.words = {tokens[0].tokens_of("cat"), tokens[1].tokens_of("dog")}, .threshold = 0.9};
  std::int64_t revised = 0;
  run.hooks.revise = [&](const Step& step, const at::Tensor& latents) {
    revised += step.index + 1;
    return latents;
  };
  const auto first = prompt_to_prompt(pipeline, cat_and_dog, swap(cat_and_dog), options, run);
  CHECK(revised == 1 + 2 + 3);
  CHECK(at::equal(prompt_to_prompt(pipeline, cat_and_dog, swap(cat_and_dog), options, run).latents, first.latents));

  TorchNoise noise(quick_prompts.seed);
  const auto alone = pipeline.sample({cat_and_dog.data(), 1}, quick_prompts, noise);
  CHECK(max_difference(first.latents.narrow(0, 0, 1), alone) < 1e-4 * deviation(alone));
  CHECK(max_difference(first.latents[0], first.latents[1]) > 0.01);

  auto given = quick_prompts;
  given.latents = TorchNoise(quick_prompts.seed).normal({1, 4, 8, 8}, 0);
  CHECK(at::equal(prompt_to_prompt(pipeline, cat_and_dog, swap(cat_and_dog), options, given).latents, first.latents));
}

TEST_CASE("A stochastic sampler adds the same noise to all pictures of a group", "[pipeline]") {
  auto pipeline = tiny_ddim(1.0);
  const std::vector<std::string> twice(2, "a cat on the grass");
  const auto result = prompt_to_prompt(pipeline, twice, swap(twice), {}, quick_prompts);
  CHECK(max_difference(result.latents[0], result.latents[1]) < 1e-4 * deviation(result.latents));
}

TEST_CASE("prompt_to_prompt says what it cannot accept", "[pipeline]") {
  auto pipeline = tiny_ddim();
  const auto attention = swap(cat_and_dog);
  const std::span source(cat_and_dog.data(), 1);
  CHECK_THROWS_WITH(prompt_to_prompt(pipeline, source, attention, {}, quick_prompts),
                    "prompt_to_prompt: expected the source's prompt and at least one edited prompt, found 1");
  auto options = quick_prompts;
  options.latents = at::zeros({2, 4, 8, 8});
  CHECK_THROWS_WITH(prompt_to_prompt(pipeline, cat_and_dog, attention, {}, options),
                    "latents: expected [1, 4, 8, 8], found [2, 4, 8, 8]");

  const auto clean = at::randn({1, 4, 8, 8}) * 0.3;
  const auto inversion = invert(pipeline, clean, source, {}, {.steps = 2});
  CHECK(prompt_to_prompt(pipeline, inversion, {}, cat_and_dog, attention).images.size() == 2);
  CHECK_THROWS_WITH(prompt_to_prompt(pipeline, inversion, {}, std::vector<std::string>{"a dog", "a cat"}, attention),
                    Contains("expected the inversion's prompt 'a cat on the grass'") && Contains("with 'a dog'"));
  CHECK_THROWS_WITH(prompt_to_prompt(pipeline, inversion, at::zeros({3, 1, 77, 32}), cat_and_dog, attention),
                    "prompt_to_prompt: null texts: expected [2,1,tokens,D] for an inversion of 2 steps, found [3, 1, "
                    "77, 32]");
  const auto two = invert(pipeline, clean.expand({2, -1, -1, -1}), cat_and_dog, {}, {.steps = 1});
  CHECK_THROWS_WITH(prompt_to_prompt(pipeline, two, {}, cat_and_dog, attention),
                    "prompt_to_prompt: expected the inversion of one photograph, found 2");
}
