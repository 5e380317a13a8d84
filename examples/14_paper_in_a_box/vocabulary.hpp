#pragma once

/// \file
/// The words of the small world, and the captions and instructions that they make.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/picture_pairs.hpp"

namespace small_world {

/// Kinds of words; a caption has one of each.
enum Kind : std::size_t { object, place, look, size, position, kind_count };
inline constexpr std::array<const char*, kind_count> kind_names{"objects", "places", "looks", "sizes", "positions"};

/// One choice of a kind.
struct Word {
  std::string phrase;       ///< In captions; objects with their article. "" for what goes without saying.
  std::string instruction;  ///< The instruction that asks for it; for objects, it names both.
  std::string file;         ///< Of objects and places: their picture.
  std::string edit;         ///< Of looks: the computed edit, or "".
  double number = 0;  ///< Of sizes: share of the side that the object spans; of positions: its centre, from 0 to 1.
};

/// A caption as numbers: which word of each kind.
using Words = std::array<std::size_t, kind_count>;

/// A kind of edit: everything stays but one word.
struct Change {
  Words before, after;
};

/// Words of every kind, and all captions that they make: "a photo of a small cow on the left in a meadow at night".
class Vocabulary {
 public:
  /// \param json objects, places, looks, sizes and positions, each a list of words  \param where named in errors
  /// \param most words of each kind that are used; 0 for all
  /// \throws Error for anything else, and when two captions would be equal
  Vocabulary(const nlohmann::json& json, const std::string& where, const Words& most = {}) {
    try {
      for (std::size_t kind = 0; kind < kind_count; ++kind) {
        const auto list = json.find(kind_names[kind]);
        ip2p::require(list != json.end() && list->is_array() && !list->empty(), "{}: expected a list \"{}\" of words",
                      where, kind_names[kind]);
        for (const auto& entry : *list) {
          if (most[kind] > 0 && words_[kind].size() == most[kind]) break;
          words_[kind].push_back({entry.at("phrase").get<std::string>(), entry.value("instruction", ""),
                                  entry.value("file", ""), entry.value("edit", ""), entry.value("number", 0.0)});
          const auto& word = words_[kind].back();
          const auto context = fmt::format("{}: {}: '{}'", where, kind_names[kind], word.phrase);
          ip2p::require(kind == object || !word.instruction.empty(), "{}: expected an instruction, found none",
                        context);
          ip2p::require((kind != object && kind != place) || !word.file.empty(), "{}: expected a file, found none",
                        context);
          ip2p::require(kind != object || word.phrase.find(' ') != std::string::npos,
                        "{}: expected an article and a noun", context);
          ip2p::require((kind != size && kind != position) || (word.number > 0 && word.number < 1),
                        "{}: expected a number between 0 and 1, found {:g}", context, word.number);
        }
      }
    } catch (const nlohmann::json::exception& error) {
      ip2p::throw_error("{}: expected lists of words with phrase, instruction and file: {}", where, error.what());
    }
    hold_out(where, most != Words{});
  }

  /// The words in use, as the constructor reads them.
  [[nodiscard]] nlohmann::json to_json() const {
    nlohmann::json json;
    for (std::size_t kind = 0; kind < kind_count; ++kind) {
      for (const auto& word : words_[kind]) {
        json[kind_names[kind]].push_back({{"phrase", word.phrase},
                                          {"instruction", word.instruction},
                                          {"file", word.file},
                                          {"edit", word.edit},
                                          {"number", word.number}});
      }
    }
    return json;
  }

  [[nodiscard]] const std::vector<Word>& of(std::size_t kind) const { return words_[kind]; }
  [[nodiscard]] const Word& word(std::size_t kind, const Words& words) const { return words_[kind][words[kind]]; }

  /// Number of captions.
  [[nodiscard]] std::size_t count() const { return captions_.size(); }

  [[nodiscard]] std::string caption(const Words& words) const {
    const auto& thing = word(object, words).phrase;
    const auto& extent = word(Kind::size, words).phrase;
    std::string text = "a photo of " + (extent.empty() ? thing : "a " + extent + " " + noun(thing));
    for (const std::size_t kind : {position, place, look}) {
      if (const auto& phrase = word(kind, words).phrase; !phrase.empty()) text += " " + phrase;
    }
    return text;
  }

  /// The caption's words, or nothing if the text is not a caption.
  [[nodiscard]] std::optional<Words> find(const std::string& caption) const {
    const auto found = captions_.find(caption);
    return found == captions_.end() ? std::nullopt : std::optional(found->second.words);
  }

  /// Every fifth caption is never trained on.
  [[nodiscard]] bool held_out(const Words& words) const { return captions_.at(caption(words)).held_out; }

  /// The kind in which both differ; nothing where they differ in none or in several.
  [[nodiscard]] static std::optional<std::size_t> changed_kind(const Words& a, const Words& b) {
    std::optional<std::size_t> found;
    for (std::size_t kind = 0; kind < kind_count; ++kind) {
      if (a[kind] == b[kind]) continue;
      if (found) return {};
      found = kind;
    }
    return found;
  }

  /// The texts of an edit.
  [[nodiscard]] ip2p::PairWords texts(const Change& change) const {
    const auto kind = changed_kind(change.before, change.after);
    ip2p::require(kind.has_value(), "edit: expected captions that differ in one word, found '{}' and '{}'",
                  caption(change.before), caption(change.after));
    const auto& wanted = word(*kind, change.after);
    const auto instruction =
        *kind == object ? fmt::format("replace the {} with {}", noun(word(object, change.before).phrase), wanted.phrase)
                        : wanted.instruction;
    return {.instruction = instruction, .input = caption(change.before), .output = caption(change.after), .url = {}};
  }

  /// Draws a caption, of those held out or of the others. The first look, size and position are as frequent as all
  /// others together.
  [[nodiscard]] Words draw(ip2p::SampleRandom& random, bool from_held_out) const {
    while (true) {
      Words words{};
      for (std::size_t kind = 0; kind < kind_count; ++kind) {
        const auto count = static_cast<std::int64_t>(words_[kind].size());
        const bool plain = kind >= look && random.uniform() < 0.5;
        words[kind] = plain ? 0 : static_cast<std::size_t>(random.below(count));
      }
      if (held_out(words) == from_held_out) return words;
    }
  }

  /// Draws an edit, from a caption of those held out or from one of the others to another of these.
  [[nodiscard]] Change draw_change(ip2p::SampleRandom& random, bool from_held_out) const {
    while (true) {
      Change change{draw(random, from_held_out), {}};
      change.after = change.before;
      const auto kind = static_cast<std::size_t>(random.below(kind_count));
      const auto others = static_cast<std::int64_t>(words_[kind].size()) - 1;
      if (others == 0) continue;
      change.after[kind] =
          (change.before[kind] + 1 + static_cast<std::size_t>(random.below(others))) % words_[kind].size();
      if (from_held_out || !held_out(change.after)) return change;
    }
  }

 private:
  struct Entry {
    Words words;
    bool held_out = false;
  };

  /// "a cow" -> "cow".
  static std::string noun(const std::string& phrase) { return phrase.substr(phrase.find(' ') + 1); }

  /// Lists all captions, and holds out every fifth in the order of a hash (FNV-1a), so that the choice looks random and
  /// depends on the words alone.
  /// \param limited whether options leave words out
  void hold_out(const std::string& where, bool limited) {
    Words words{};
    for (bool more = true; more;) {
      const auto text = caption(words);
      ip2p::require(captions_.emplace(text, Entry{words}).second, "{}: expected captions that differ, found '{}' twice",
                    where, text);
      more = false;
      for (std::size_t kind = 0; kind < kind_count && !more; ++kind) {
        more = ++words[kind] < words_[kind].size();
        if (!more) words[kind] = 0;
      }
    }
    std::vector<std::pair<std::uint64_t, Entry*>> order;
    for (auto& [text, entry] : captions_) order.emplace_back(ip2p::detail::fnv(text), &entry);
    ip2p::require(order.size() >= 5, "{}: expected words for at least 5 captions, found {}{}", where, order.size(),
                  limited ? " with --objects, --places, --looks, --sizes and --positions" : "");
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); i += 5) order[i].second->held_out = true;
  }

  std::array<std::vector<Word>, kind_count> words_;
  std::map<std::string, Entry> captions_;
};

}  // namespace small_world
