#pragma once

/// \file
/// What a model's folder says about its limits: the scales of guidance that it was trained for, and the edits it knows.

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

/// Values of a guidance's scale, both ends included.
struct ScaleRange {
  double least = 0.0;  ///< The lowest.
  double most = 0.0;   ///< The highest.

  /// Whether it includes a value.
  [[nodiscard]] bool holds(double scale) const { return scale >= least && scale <= most; }
};

/// A kind of edit, and the words by which instructions ask for it.
struct KnownEdit {
  std::string name;                ///< As people call it: "black and white".
  std::vector<std::string> words;  ///< In lower case. Those of four letters or more stand for longer ones too.
};

/// Limits of a model, from the entry `_ip2p_settings` of its model_index.json:
///
/// \code{.json}
/// {"text_scale_range": [0.5, 1.5], "image_scale_range": [0.8, 1.2],
///  "knows": {"winter": ["winter", "snow"], "night": ["night", "midnight", "dark"]}}
/// \endcode
///
/// A model without them, as all published ones, has no limits that are known.
struct ModelAdvice {
  std::optional<ScaleRange> image_scale = {};  ///< Image scales that give sound pictures.
  std::optional<ScaleRange> text_scale = {};   ///< Text scales that do.
  std::vector<KnownEdit> known = {};           ///< All edits that the model was trained on; empty for any.

  /// \param settings as `ModelFiles::settings` returns them  \param where named in errors
  /// \throws Error for entries of another form
  static ModelAdvice from_json(const nlohmann::json& settings, std::string_view where);

  /// Of an open model. \throws Error as `from_json`
  static ModelAdvice of(const ModelFiles& files) { return from_json(files.settings(), files.path().string()); }

  /// Whether an instruction has a word of an edit that the model knows. The empty one asks for no edit, and is known.
  [[nodiscard]] bool knows(std::string_view instruction) const;
};

namespace detail {

/// Words of ASCII letters and digits, in lower case; other bytes are letters too, as in "café".
inline std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    const char lower = lower_ascii(c);
    const bool letter = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || (lower & 0x80) != 0;
    if (letter) {
      words.back() += lower;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

inline std::optional<ScaleRange> scale_range(const nlohmann::json& settings, const char* key, std::string_view where) {
  const auto found = settings.find(key);
  if (found == settings.end()) return {};
  const bool pair = found->is_array() && found->size() == 2 && (*found)[0].is_number() && (*found)[1].is_number();
  require(pair && (*found)[0].get<double>() <= (*found)[1].get<double>(),
          "{}: _ip2p_settings: {}: expected two numbers, the lower first, found {}", where, key, json_text(*found));
  return ScaleRange{(*found)[0].get<double>(), (*found)[1].get<double>()};
}

}  // namespace detail

inline ModelAdvice ModelAdvice::from_json(const nlohmann::json& settings, std::string_view where) {
  ModelAdvice advice;
  advice.image_scale = detail::scale_range(settings, "image_scale_range", where);
  advice.text_scale = detail::scale_range(settings, "text_scale_range", where);
  const auto known = settings.find("knows");
  if (known == settings.end()) return advice;
  require(known->is_object(), "{}: _ip2p_settings: knows: expected an object of edits with their words, found {}",
          where, detail::json_text(*known));
  for (const auto& [name, words] : known->items()) {
    const bool texts = words.is_array() && !words.empty() && std::ranges::all_of(words, [](const auto& word) {
                         return word.is_string() && detail::words_of(word.template get<std::string>()) ==
                                                        std::vector<std::string>{word.template get<std::string>()};
                       });
    require(texts, "{}: _ip2p_settings: knows: {}: expected a list of single words in lower case, found {}", where,
            detail::printable(name), detail::json_text(words));
    advice.known.push_back({name, words.get<std::vector<std::string>>()});
  }
  return advice;
}

inline bool ModelAdvice::knows(std::string_view instruction) const {
  const auto words = detail::words_of(instruction);
  if (known.empty() || words.empty()) return true;
  constexpr std::size_t stem = 4;
  return std::ranges::any_of(words, [&](const std::string& word) {
    return std::ranges::any_of(known, [&](const KnownEdit& edit) {
      return std::ranges::any_of(edit.words, [&](const std::string& one) {
        return word == one || (one.size() >= stem && word.starts_with(one));
      });
    });
  });
}

}  // namespace ip2p
