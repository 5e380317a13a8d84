#include "prompt_edit.hpp"

#include <ATen/ops/stack.h>

#include <cstddef>
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
#include "range.hpp"

namespace example {

void add_prompt_edit(CLI::App& app, PromptEditOptions& o) {
  app.add_option("--prompt", o.source, "what the picture shows")->required();
  app.add_option("--edited", o.edited, "what it should show instead; may be repeated, for a picture each")
      ->required()
      ->allow_extra_args(false);  // else CLI11 takes a text in brackets for a list
  app.add_option("--edit", o.kind, "swap: replace words; refine: add words; auto: swap where possible")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "swap", "refine"}));
  app.add_option("--cross", o.cross, "share of the run that keeps the source's cross-attention")
      ->capture_default_str()
      ->check(example::range(0.0, 1.0));
  app.add_option("--self", o.self, "share of the run that keeps the source's self-attention, and so its layout")
      ->capture_default_str()
      ->check(example::range(0.0, 1.0));
  app.add_option("--weight", o.weights, "WORD SCALE: strengthen (above 1) or weaken a word of the edited prompts");
  app.add_option("--blend", o.blend,
                 "limit the edit to where these words appear: one for --prompt and one for each --edited");
}

/// Swaps or adds words, then strengthens or weakens some.
static ip2p::AnyTokenEdit token_edit(const PromptEditOptions& o, const ip2p::PromptTokens& source,
                                     std::span<const ip2p::PromptTokens> edited) {
  for (const auto& [word, scale] : o.weights) {
    bool found = false;
    for (const auto& prompt : edited) found = found || !prompt.find(word).empty();
    ip2p::require(found, "--weight: expected a word of an edited prompt, found '{}'", word);
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
                  "--blend: expected one word for --prompt and one for each --edited, {} in all, found {}",
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
