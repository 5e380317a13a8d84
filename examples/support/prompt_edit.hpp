#pragma once

/// \file
/// Options of a Prompt-to-Prompt edit, and the attention policy they select.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "command_line.hpp"
#include "ip2p/attention/any_token_edit.hpp"
#include "ip2p/attention/local_blend.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/pipeline/open_model.hpp"

namespace CLI {
class App;
}

namespace example {

struct PromptEditOptions {
  std::string source;               ///< What the picture shows.
  std::vector<std::string> edited;  ///< What it should show.
  std::string kind = "auto";
  double cross = 0.8, self = 0.4;
  std::vector<std::pair<std::string, double>> weights;
  std::vector<std::string> blend;
};

/// Adds --source, --prompt and how they are edited, and what reads marks in them.
void add_prompt_edit(CLI::App& app, PromptEditOptions& o, ModelOptions& model);

/// The options without the LoRAs that the prompts name, which are added to `model`. \throws Error as `take_loras`
PromptEditOptions without_named_loras(PromptEditOptions o, ModelOptions& model);

/// The prompts of a group, and how they share attention.
struct PromptEdit {
  std::vector<std::string> prompts;  ///< The source's first.
  ip2p::PromptToPrompt<ip2p::AnyTokenEdit> attention;
  std::optional<ip2p::LocalBlend> blend;  ///< Empty where the edit may act everywhere.
};

PromptEdit prompt_edit(const PromptEditOptions& o, const ip2p::OpenedModel& model);

}  // namespace example
