#pragma once

/// \file
/// Triplets of caption, instruction and edited caption, as text for a language model and as JSON lines.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/text_line.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p {

/// What InstructPix2Pix's language model learns: how an instruction changes a picture's caption.
struct Triplet {
  std::string caption;      ///< Caption of the picture before; "input" in the released set.
  std::string instruction;  ///< "edit" there.
  std::string edited;       ///< Caption of the picture after; "output" there.
  std::string url;          ///< Of the picture that the caption belongs to, or "".
};

/// The text format of the released set (`prepare_for_gpt.py`).
struct TripletFormat {
  std::string after_caption = "\n##\n";      ///< Ends the prompt.
  std::string after_instruction = "\n%%\n";  ///< Stands between the instruction and the edited caption.
  std::string end = "\nEND";                 ///< Ends the answer; the stop text.

  /// What the language model is asked.
  [[nodiscard]] std::string prompt(std::string_view caption) const { return std::string(caption) + after_caption; }
  /// The answer that it is taught to give.
  [[nodiscard]] std::string completion(const Triplet& triplet) const {
    return triplet.instruction + after_instruction + triplet.edited + end;
  }
};

/// Why a sample or a caption gave no triplet.
enum class TripletRejection {
  no_delimiter,        ///< Nothing separates instruction and caption.
  several_delimiters,  ///< More than one delimiter.
  empty,               ///< Instruction or caption is blank.
  unchanged,           ///< The edited caption equals the caption.
  moderated,           ///< Rejected by the moderation policy or the service.
};

/// Name of a rejection in reports, e.g. "no_delimiter".
inline constexpr std::string_view rejection_name(TripletRejection rejection) {
  switch (rejection) {
    case TripletRejection::no_delimiter:
      return "no_delimiter";
    case TripletRejection::several_delimiters:
      return "several_delimiters";
    case TripletRejection::empty:
      return "empty";
    case TripletRejection::unchanged:
      return "unchanged";
    case TripletRejection::moderated:
      return "moderated";
  }
  return "unknown";
}

namespace detail {

/// `text` without white space around it.
inline std::u32string_view stripped(std::u32string_view text) {
  while (!text.empty() && is_white_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_white_space(text.back())) text.remove_suffix(1);
  return text;
}

inline std::string stripped(std::string_view text) {
  return encode_utf8(stripped(std::u32string_view(decode_utf8(text, InvalidUtf8::replace))));
}

/// The form that the released generator compares: stripped of white space, then of ".!?", in lower case.
inline std::u32string compared(std::string_view text) {
  const auto points = decode_utf8(text, InvalidUtf8::replace);
  auto view = stripped(std::u32string_view(points));
  const auto mark = [](char32_t c) { return c == U'.' || c == U'!' || c == U'?'; };
  while (!view.empty() && mark(view.front())) view.remove_prefix(1);
  while (!view.empty() && mark(view.back())) view.remove_suffix(1);
  return lower(view);
}

/// Lower-case words, split at white space, with their counts.
inline std::map<std::u32string, std::int64_t> word_counts(std::string_view text) {
  std::map<std::u32string, std::int64_t> counts;
  std::u32string word;
  for (const char32_t c : lower(decode_utf8(text, InvalidUtf8::replace)) + U" ") {
    if (!is_white_space(c)) {
      word += c;
    } else if (!word.empty()) {
      ++counts[word];
      word.clear();
    }
  }
  return counts;
}

}  // namespace detail

/// Whether two captions are equal up to case and surrounding white space and ".!?".
inline bool same_caption(std::string_view a, std::string_view b) { return detail::compared(a) == detail::compared(b); }

/// Fraction of the caption's words that the edited caption keeps, in [0, 1]; 1 for a caption without words.
inline double kept_words(std::string_view caption, std::string_view edited) {
  const auto before = detail::word_counts(caption);
  const auto after = detail::word_counts(edited);
  std::int64_t all = 0, kept = 0;
  for (const auto& [word, count] : before) {
    all += count;
    if (const auto found = after.find(word); found != after.end()) kept += std::min(count, found->second);
  }
  return all == 0 ? 1.0 : static_cast<double>(kept) / static_cast<double>(all);
}

/// Parses a language model's answer to `format.prompt(caption)` as a triplet without URL, or says why it is not one.
inline std::pair<std::optional<Triplet>, TripletRejection> parse_triplet(std::string_view caption,
                                                                         std::string_view completion,
                                                                         const TripletFormat& format = {}) {
  const auto delimiter = completion.find(format.after_instruction);
  if (delimiter == std::string_view::npos) return {std::nullopt, TripletRejection::no_delimiter};
  // As in the released `split`, delimiters do not overlap.
  const auto rest = completion.substr(delimiter + format.after_instruction.size());
  if (rest.find(format.after_instruction) != std::string_view::npos) {
    return {std::nullopt, TripletRejection::several_delimiters};
  }
  Triplet triplet{std::string(caption), std::string(completion.substr(0, delimiter)), std::string(rest), ""};
  if (detail::stripped(triplet.instruction).empty() || detail::stripped(triplet.edited).empty()) {
    return {std::nullopt, TripletRejection::empty};
  }
  if (same_caption(caption, triplet.edited)) return {std::nullopt, TripletRejection::unchanged};
  return {std::move(triplet), {}};
}

/// Keys of a record.
enum class TripletKeys {
  released,   ///< input, edit, output: the human-written set.
  generated,  ///< caption, edit, output: what the released generator writes.
};

/// One line of JSON, without the newline. Ill-formed UTF-8 becomes U+FFFD.
inline std::string triplet_to_json(const Triplet& triplet, TripletKeys keys = TripletKeys::generated) {
  nlohmann::ordered_json json;
  json[keys == TripletKeys::released ? "input" : "caption"] = triplet.caption;
  json["edit"] = triplet.instruction;
  json["output"] = triplet.edited;
  if (!triplet.url.empty()) json["url"] = triplet.url;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

namespace detail {

/// The text under the first of `keys` that `json` has. Throws `Error` if it has none or the value is not a text.
inline std::string text_under(const nlohmann::json& json, std::initializer_list<const char*> keys,
                              const std::string& where) {
  for (const char* key : keys) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) continue;
    require(found->is_string(), "{}: \"{}\": expected a text, found {}", where, key, found->type_name());
    return found->get<std::string>();
  }
  throw_error("{}: expected \"{}\", found none", where,
              fmt::join(std::vector<std::string>(keys.begin(), keys.end()), "\" or \""));
}

inline std::string url_under(const nlohmann::json& json, const std::string& where) {
  return json.contains("url") && !json["url"].is_null() ? text_under(json, {"url"}, where) : std::string();
}

inline nlohmann::json parse_object(const std::string& line, const std::string& where) {
  auto json = json_or_discarded(line);
  require(json.is_object(), "{}: expected a JSON object, found '{}'", where, printable(line.substr(0, 60)));
  return json;
}

/// Calls `use(line, where)` for each line that is not blank; `where` is "file:number". Throws `Error` for a line that
/// is not text.
template <class Use>
void for_each_line(const std::filesystem::path& path, Use&& use) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "cannot open '{}'", path.string());
  std::int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    const auto where = fmt::format("{}:{}", path.string(), number);
    require_text(line, where);
    if (!stripped(line).empty()) use(line, where);
  }
  require(!file.bad(), "cannot read '{}'", path.string());
}

}  // namespace detail

/// Reads a record under any of the spellings in use: input or caption; edit or instruction; output or edited_caption.
/// \throws Error naming `where` for a missing field or one that is not a text
inline Triplet triplet_from_json(const nlohmann::json& json, const std::string& where) {
  return {detail::text_under(json, {"caption", "input"}, where),
          detail::text_under(json, {"edit", "instruction"}, where),
          detail::text_under(json, {"output", "edited_caption", "edited"}, where), detail::url_under(json, where)};
}

/// Reads a file of JSON lines. \throws Error naming file and line
inline std::vector<Triplet> read_triplets(const std::filesystem::path& path) {
  std::vector<Triplet> triplets;
  detail::for_each_line(path, [&](const std::string& line, const std::string& where) {
    triplets.push_back(triplet_from_json(detail::parse_object(line, where), where));
  });
  return triplets;
}

/// A caption to make a triplet from.
struct SourceCaption {
  std::string caption;
  std::string url;  ///< Of its picture, or "".
};

/// Reads captions, one per line: plain text, or JSON objects with "caption", "input" or "text" and optionally "url".
/// \throws Error naming file and line
inline std::vector<SourceCaption> read_captions(const std::filesystem::path& path) {
  std::vector<SourceCaption> captions;
  detail::for_each_line(path, [&](const std::string& line, const std::string& where) {
    if (!line.starts_with('{')) {
      captions.push_back({detail::stripped(line), ""});
      return;
    }
    const auto json = detail::parse_object(line, where);
    captions.push_back({detail::text_under(json, {"caption", "input", "text"}, where), detail::url_under(json, where)});
  });
  return captions;
}

}  // namespace ip2p
