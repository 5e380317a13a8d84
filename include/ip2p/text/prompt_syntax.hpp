#pragma once

/// \file
/// The marks that users of AUTOMATIC1111's web UI and of stable-diffusion.cpp write into prompts: words that count more
/// or less, and LoRAs.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

/// A part of a prompt whose words count equally.
struct WeightedText {
  std::string text;   ///< As the tokenizer gets it.
  double weight = 1;  ///< Factor of the words' vectors; 1 for words without a mark.

  friend bool operator==(const WeightedText&, const WeightedText&) = default;
};

/// A LoRA that a prompt names.
struct PromptLora {
  std::string name;  ///< As written.
  double scale = 1;  ///< Factor of its change.

  friend bool operator==(const PromptLora&, const PromptLora&) = default;
};

/// A prompt without its marks.
struct ParsedPrompt {
  std::vector<WeightedText> parts;  ///< In order; neighbours differ in weight. Empty for an empty prompt.
  std::vector<PromptLora> loras;    ///< In order.

  /// Whether all words count 1.
  [[nodiscard]] bool plain() const {
    return std::all_of(parts.begin(), parts.end(), [](const WeightedText& part) { return part.weight == 1; });
  }
  /// The words alone.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const auto& part : parts) all += part.text;
    return all;
  }
};

namespace detail {

/// The number that all of `text` spells but for blanks around it, or NaN.
inline double prompt_number(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size() && !text.empty() ? value : std::nan("");
}

}  // namespace detail

/// Whether a prompt has any of the characters that `parse_prompt` gives a meaning.
inline bool has_prompt_marks(std::string_view prompt) {
  return prompt.find_first_of("()[]\\") != std::string_view::npos || prompt.find("<lora:") != std::string_view::npos;
}

/// A prompt without the LoRAs that it names, its other marks as they were; and the LoRAs. Blanks around one count once.
/// \throws Error for a scale that is no finite number, and for a LoRA without a name
inline std::pair<std::string, std::vector<PromptLora>> without_loras(std::string_view prompt) {
  std::pair<std::string, std::vector<PromptLora>> result;
  auto& [words, loras] = result;
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] == '\\' && i + 1 < prompt.size()) {
      words += prompt[i];
      words += prompt[++i];
      continue;
    }
    if (!prompt.substr(i).starts_with("<lora:")) {
      words += prompt[i];
      continue;
    }
    const auto end = prompt.find('>', i);
    const auto whole = prompt.substr(i, end == std::string_view::npos ? end : end + 1 - i);
    const auto inside = whole.substr(6, whole.size() - 6 - (end == std::string_view::npos ? 0 : 1));
    const auto colon = inside.find(':');
    const PromptLora lora{std::string(inside.substr(0, colon)),
                          colon == std::string_view::npos ? 1.0 : detail::prompt_number(inside.substr(colon + 1))};
    require(end != std::string_view::npos && !lora.name.empty() && std::isfinite(lora.scale),
            "prompt: expected a LoRA as <lora:name:0.8>, found '{}'; write \\< for a plain one",
            detail::printable(std::string(whole)));
    loras.push_back(lora);
    i = end;
    if ((words.empty() || words.back() == ' ') && i + 1 < prompt.size() && prompt[i + 1] == ' ') ++i;
  }
  return result;
}

/// Parses a prompt by the rules of AUTOMATIC1111's web UI: `(words:1.5)` count 1.5 times, `(words)` 1.1 times,
/// `[words]` 1 / 1.1 times; such marks multiply where they are nested, and one that is not closed extends to the end. A
/// backslash takes the meaning from a following parenthesis, bracket, `<` or backslash. `<lora:name:0.8>` names a LoRA
/// and its scale (1 if there is none).
/// \throws Error for a weight or scale that is no finite number, for a LoRA without a name, and for what changes words
///   during a run (`[cat:dog:0.5]`, `[cat|dog]`), which is not supported
inline ParsedPrompt parse_prompt(std::string_view marked) {
  constexpr double more = 1.1;
  struct Open {
    char mark;
    std::size_t part;  ///< The first that it covers.
  };
  ParsedPrompt result;
  std::string prompt;
  std::tie(prompt, result.loras) = without_loras(marked);
  std::vector<WeightedText> parts{{}};
  std::vector<Open> open;
  const auto begin_part = [&] { parts.push_back({}); };
  const auto scale_from = [&](std::size_t first, double factor) {
    for (std::size_t i = first; i < parts.size(); ++i) parts[i].weight *= factor;
    begin_part();
  };
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    const char c = prompt[i];
    if (c == '\\' && i + 1 < prompt.size() &&
        std::string_view("()[]<\\").find(prompt[i + 1]) != std::string_view::npos) {
      parts.back().text += prompt[++i];
    } else if (c == '(' || c == '[') {
      begin_part();
      open.push_back({c, parts.size() - 1});
    } else if (c == ')' && !open.empty() && open.back().mark == '(') {
      const auto first = open.back().part;
      open.pop_back();
      auto& text = parts.back().text;
      const auto colon = text.rfind(':');
      double weight = more;
      if (colon != std::string::npos) {
        const auto number = std::string_view(text).substr(colon + 1);
        const double value = detail::prompt_number(number);
        if (!std::isnan(value)) {
          require(std::isfinite(value) && std::abs(value) <= 100,
                  "prompt: expected a weight from -100 to 100 as in (word:1.5), found '{}'",
                  detail::printable(std::string(number)));
          weight = value;
          text.resize(colon);
        } else {
          require(number.find_first_not_of(" 0123456789.,+-") != std::string_view::npos || number.empty(),
                  "prompt: expected a number as the weight, as in (word:1.5), found '{}'",
                  detail::printable(std::string(number)));
        }
      }
      scale_from(first, weight);
    } else if (c == ']' && !open.empty() && open.back().mark == '[') {
      for (std::size_t k = open.back().part; k < parts.size(); ++k) {
        require(parts[k].text.find('|') == std::string::npos &&
                    std::count(parts[k].text.begin(), parts[k].text.end(), ':') == 0,
                "prompt: expected words that count less as [words], found '[{}]', which would change words during the "
                "run and is not supported; write \\[ for a plain bracket",
                detail::printable(parts[k].text));
      }
      scale_from(open.back().part, 1 / more);
      open.pop_back();
    } else {
      parts.back().text += c;
    }
  }
  for (const auto& mark : open) scale_from(mark.part, mark.mark == '(' ? more : 1 / more);
  for (auto& part : parts) {
    if (part.text.empty()) continue;
    if (!result.parts.empty() && result.parts.back().weight == part.weight) {
      result.parts.back().text += part.text;
    } else {
      result.parts.push_back(std::move(part));
    }
  }
  return result;
}

}  // namespace ip2p
