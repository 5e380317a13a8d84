#pragma once

/// \file
/// More ways to say an instruction: the phrasings of edits.hpp with other words of the same meaning.

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "edits.hpp"
#include "ip2p/core/sample_random.hpp"

namespace small_editor {

namespace detail {

/// Words and phrases that stand for each other in instructions.
inline const std::vector<std::vector<std::string_view>>& synonyms() {
  static const std::vector<std::vector<std::string_view>> all = {
      {"the photo", "the picture", "the image", "the scene", "this photo", "it"},
      {"increase", "raise", "boost", "turn up"},
      {"lower", "reduce", "decrease", "turn down"},
      {"turn", "convert", "transform", "change"},
      {"everything", "all of it", "the whole picture"},
      {"color", "colour"},
      {"colors", "colours"},
      {"colorful", "colourful"},
      {"watercolor", "watercolour"},
      {"posterize", "posterise"},
      {"posterized", "posterised"},
  };
  return all;
}

/// Whether `text` has `words` at `place`, not as a part of other words.
inline bool stands_at(std::string_view text, std::size_t place, std::string_view words) {
  const auto in_word = [&](std::size_t i) {
    return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i]));
  };
  return text.substr(place, words.size()) == words && !in_word(place + words.size()) &&
         (place == 0 || !in_word(place - 1));
}

/// A place among `count`, at random.
inline std::size_t draw(std::size_t count, ip2p::SampleRandom& random) {
  return static_cast<std::size_t>(random.below(static_cast<std::int64_t>(count)));
}

inline bool is_held_out(std::string_view text) {
  return std::ranges::any_of(edit_families(), [&](const EditFamily& family) {
    return std::ranges::find(family.held_out_texts(), text) != family.held_out_texts().end();
  });
}

}  // namespace detail

/// The instruction, or half of the time one that says the same: each word that has synonyms may become one of them, and
/// one in eight asks politely. Never a phrasing that is held out.
inline std::string reworded(std::string_view text, ip2p::SampleRandom& random) {
  if (random.uniform() < 0.5) return std::string(text);
  std::string result;
  for (std::size_t place = 0; place < text.size();) {
    std::size_t taken = 0;
    for (const auto& group : detail::synonyms()) {
      for (const auto words : group) {
        if (taken > 0 || !detail::stands_at(text, place, words)) continue;
        taken = words.size();
        result += random.uniform() < 0.5 ? words : group[detail::draw(group.size(), random)];
      }
    }
    if (taken == 0) {
      result += text[place];
      taken = 1;
    }
    place += taken;
  }
  if (random.uniform() < 0.125) result = random.uniform() < 0.5 ? "please " + result : result + ", please";
  return detail::is_held_out(result) ? std::string(text) : result;
}

/// A phrasing of the family at random. \param held_out one that is never trained on, as it is; else one that is trained
/// on, perhaps reworded
inline std::string random_phrasing(const EditFamily& family, bool held_out, ip2p::SampleRandom& random) {
  const auto texts = held_out ? family.held_out_texts() : family.training_texts();
  const auto text = texts[detail::draw(texts.size(), random)];
  return held_out ? std::string(text) : reworded(text, random);
}

}  // namespace small_editor
