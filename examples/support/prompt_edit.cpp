#include "prompt_edit.hpp"

#include <ATen/ops/stack.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "ip2p/attention/prompt_tokens.hpp"
#include "ip2p/attention/refine.hpp"
#include "ip2p/attention/reweight.hpp"
#include "ip2p/attention/word_swap.hpp"
#include "ip2p/core/error.hpp"
#include "model.hpp"
#include "option_table.hpp"
#include "range.hpp"

namespace example {

/// Before, --source was called --prompt, and --prompt --edited. A command with an --edited and without a --source is
/// one of then: the one --prompt that is not an --edited is the source. \param edited what was given as --edited
static void take_old_words(CLI::Option* source, CLI::Option* prompt, const std::vector<std::string>& edited) {
  if (edited.empty() || source->count() > 0) return;
  auto texts = prompt->results();
  for (const auto& text : edited) {
    if (const auto found = std::ranges::find(texts, text); found != texts.end()) texts.erase(found);
  }
  if (texts.size() != 1) throw CLI::RequiredError("--source");
  note_old_name("--prompt beside --edited", "--source");
  source->add_result(texts.front());
  prompt->clear();
  prompt->add_result(edited);
  source->run_callback();
  prompt->run_callback();
}

void add_prompt_edit(CLI::App& app, PromptEditOptions& o, ModelOptions& model) {
  auto* source = app.add_option("--source", o.source, "what the picture shows")->required();
  auto* prompt =
      app.add_option("--prompt", o.edited, "what it should show instead; may be repeated to get several pictures")
          ->required()
          ->allow_extra_args(false);  // else CLI11 takes a text in brackets for a list
  const auto edited = std::make_shared<std::vector<std::string>>();
  old_name(app, prompt, "--edited")->allow_extra_args(false)->each([=](const std::string& text) {
    source->required(false);
    edited->push_back(text);
  });
  app.callback([=] { take_old_words(source, prompt, *edited); });
  app.add_option("--edit", o.kind, "swap: replace words; refine: add words; auto: swap where possible")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "swap", "refine"}));
  app.add_option("--cross", o.cross, "share of the run that keeps the source's cross-attention")
      ->capture_default_str()
      ->check(example::range(0.0, 1.0));
  app.add_option("--self", o.self, "share of the run that keeps the source's self-attention, and so its layout")
      ->capture_default_str()
      ->check(example::range(0.0, 1.0));
  app.add_option("--weight", o.weights,
                 "WORD SCALE: strengthen (above 1) or weaken the attention to a word of the prompts");
  app.add_option("--blend", o.blend,
                 "limit the edit to where these words appear: one for --source and one for each --prompt");
  add_prompt_marks(app, model);
}

PromptEditOptions without_named_loras(PromptEditOptions o, ModelOptions& model) {
  std::vector<std::string> prompts{o.source};
  prompts.insert(prompts.end(), o.edited.begin(), o.edited.end());
  auto words = take_loras(prompts, model);
  o.source = words.front();
  o.edited.assign(words.begin() + 1, words.end());
  return o;
}

/// Swaps or adds words, then strengthens or weakens some.
static ip2p::AnyTokenEdit token_edit(const PromptEditOptions& o, const ip2p::PromptTokens& source,
                                     std::span<const ip2p::PromptTokens> edited) {
  for (const auto& [word, scale] : o.weights) {
    bool found = false;
    for (const auto& prompt : edited) found = found || !prompt.find(word).empty();
    ip2p::require(found, "--weight: expected a word of a --prompt, found '{}'", word);
  }
  std::vector<at::Tensor> scales;
  bool same_words = true;
  for (const auto& prompt : edited) {
    std::vector<std::pair<std::string, double>> own;
    for (const auto& weight : o.weights) {
      if (!prompt.find(weight.first).empty()) own.push_back(weight);
    }
    scales.push_back(ip2p::equalizer(prompt, own));
    same_words = same_words && prompt.words().size() == source.words().size();
  }
  const auto reweighted = [&](const auto& edit) -> ip2p::AnyTokenEdit {
    return ip2p::Reweight(at::stack(scales), edit);
  };
  if (o.kind == "swap" || (o.kind == "auto" && same_words)) return reweighted(ip2p::WordSwap::between(source, edited));
  return reweighted(ip2p::Refine::between(source, edited));
}

PromptEdit prompt_edit(const PromptEditOptions& o, const ip2p::OpenedModel& model) {
  std::vector<std::string> prompts{o.source};
  prompts.insert(prompts.end(), o.edited.begin(), o.edited.end());
  std::vector<ip2p::PromptTokens> tokens;
  for (const auto& prompt : prompts) tokens.push_back(model.tokens(prompt));
  const auto edited = std::span(tokens).subspan(1);

  std::optional<ip2p::LocalBlend> blend;
  if (!o.blend.empty()) {
    ip2p::require(o.blend.size() == prompts.size(),
                  "--blend: expected one word for --source and one for each --prompt, {} in all, found {}",
                  prompts.size(), o.blend.size());
    blend.emplace();
    for (std::size_t i = 0; i < prompts.size(); ++i) blend->words.push_back(tokens[i].tokens_of(o.blend[i]));
  }
  return {prompts,
          ip2p::PromptToPrompt<ip2p::AnyTokenEdit>{.edit = token_edit(o, tokens.front(), edited),
                                                   .cross = {.common = {.begin = 0.0, .end = o.cross}},
                                                   .self = {.begin = 0.0, .end = o.self}},
          blend};
}

}  // namespace example
