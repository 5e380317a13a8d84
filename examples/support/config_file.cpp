#include "config_file.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/io/hub_cache.hpp"
#include "option_table.hpp"
#include "range.hpp"

namespace example {

namespace {

namespace fs = std::filesystem;

/// A line "key = value" of the file.
struct Entry {
  std::vector<std::string> tables = {};
  std::string key = {};
  std::vector<std::string> values = {};
  std::size_t line = 0;
};

/// Reads the text from its beginning to its end.
class TomlReader {
 public:
  TomlReader(std::string text, std::string name) : text_(std::move(text)), name_(std::move(name)) {}

  std::vector<Entry> entries() {
    std::vector<Entry> all;
    std::vector<std::string> table;
    for (skip_blank(); at_ < text_.size(); skip_blank()) {
      if (peek() == '[') {
        ++at_;
        if (peek() == '[') wrong("expected one table, found a list of tables");
        table = dotted_key();
        expect(']');
      } else {
        Entry entry{.tables = table, .line = line()};
        auto path = dotted_key();
        entry.key = std::move(path.back());
        path.pop_back();
        entry.tables.insert(entry.tables.end(), path.begin(), path.end());
        expect('=');
        entry.values = value();
        for (const auto& other : all) {
          if (other.key == entry.key && other.tables == entry.tables) {
            wrong(fmt::format("{} was given twice, first in line {}", entry.key, other.line));
          }
        }
        all.push_back(std::move(entry));
      }
      skip_space();
      if (at_ < text_.size() && peek() != '\n' && peek() != '\r' && peek() != '#') {
        wrong(fmt::format("expected the end of the line, found '{}'", rest_of_line()));
      }
    }
    return all;
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    throw CLI::ConfigError(fmt::format("--config: {}, line {}: {}", name_, line(), what), CLI::ExitCodes::ConfigError);
  }

  [[nodiscard]] std::size_t line() const {
    return 1 +
           static_cast<std::size_t>(std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n'));
  }

  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  [[nodiscard]] std::string rest_of_line() const { return text_.substr(at_, text_.find('\n', at_) - at_); }

  void skip_space() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }

  /// Space, ends of lines and comments.
  void skip_blank() {
    while (at_ < text_.size()) {
      if (peek() == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (std::isspace(static_cast<unsigned char>(peek())) != 0) {
        ++at_;
      } else {
        return;
      }
    }
  }

  void expect(char wanted) {
    skip_space();
    if (peek() != wanted) wrong(fmt::format("expected '{}', found '{}'", wanted, rest_of_line()));
    ++at_;
    skip_space();
  }

  std::vector<std::string> dotted_key() {
    std::vector<std::string> path;
    do {
      if (!path.empty()) ++at_;
      skip_space();
      path.push_back(peek() == '"' || peek() == '\'' ? quoted() : bare("_-"));
      if (path.back().empty()) wrong(fmt::format("expected a key, found '{}'", rest_of_line()));
      skip_space();
    } while (peek() == '.');
    return path;
  }

  /// Letters, digits and `others`.
  std::string bare(std::string_view others) {
    const auto begin = at_;
    while (std::isalnum(static_cast<unsigned char>(peek())) != 0 ||
           (peek() != '\0' && others.find(peek()) != others.npos)) {
      ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  std::vector<std::string> value() {
    if (peek() != '[') return {single()};
    std::vector<std::string> list;
    ++at_;
    for (skip_blank(); peek() != ']'; skip_blank()) {
      list.push_back(single());
      skip_blank();
      if (peek() == ',') {
        ++at_;
      } else if (peek() != ']') {
        wrong(fmt::format("expected ',' or ']', found '{}'", rest_of_line()));
      }
    }
    ++at_;
    return list;
  }

  std::string single() {
    if (peek() == '"' || peek() == '\'') return quoted();
    const auto begin = at_;
    auto word = bare("_-+.");
    std::erase(word, '_');  // 10_000
    double number = 0;
    if (word == "true" || word == "false" || parse_number(word, number)) return word;
    at_ = begin;
    wrong(fmt::format("expected a number, true, false or a text in quotes, found '{}'", rest_of_line()));
  }

  std::string quoted() {
    const char quote = text_[at_++];
    if (peek() == quote && at_ + 1 < text_.size() && text_[at_ + 1] == quote) {
      wrong("expected a text of one line, found three quotes");
    }
    std::string text;
    for (; peek() != quote; ++at_) {
      if (peek() == '\0' || peek() == '\n') wrong(fmt::format("expected {} at the end of a text, found none", quote));
      if (quote == '"' && peek() == '\\') {
        ++at_;
        text += escaped();
      } else {
        text += peek();
      }
    }
    ++at_;
    return text;
  }

  /// What stands for the character after a backslash.
  std::string escaped() {
    constexpr std::string_view names = "btnfr\"\\", meant = "\b\t\n\f\r\"\\";
    const char c = peek();
    if (const auto n = names.find(c); c != '\0' && n != names.npos) return std::string(1, meant[n]);
    const std::size_t digits = c == 'u' ? 4 : c == 'U' ? 8 : 0;
    std::uint32_t code = 0;
    const char* first = text_.data() + at_ + 1;
    if (digits == 0 || at_ + digits >= text_.size() ||
        std::from_chars(first, first + digits, code, 16).ptr != first + digits || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000)) {
      wrong(fmt::format("expected an escape such as \\n or \\u00e9, found '\\{}'", c));
    }
    at_ += digits;
    return utf8(code);
  }

  static std::string utf8(std::uint32_t code) {
    const auto byte = [](std::uint32_t bits) { return static_cast<char>(static_cast<unsigned char>(bits)); };
    const auto next = [&](int shift) { return byte(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) return {byte(code)};
    if (code < 0x800) return {byte(0xc0 | code >> 6), next(0)};
    if (code < 0x10000) return {byte(0xe0 | code >> 12), next(6), next(0)};
    return {byte(0xf0 | code >> 18), next(12), next(6), next(0)};
  }

  std::string text_, name_;
  std::size_t at_ = 0;
};

/// `apply` to each path among an option's values; the rest as it is.
template <class Apply>
std::string with_path(const std::string& kind, const std::string& value, Apply&& apply) {
  if (value.empty() || value == "-") return value;  // "-" is a stream
  if (kind == "FILE" || kind == "FOLDER" || kind == "PATH" || kind == "FILE[:SCALE]") return apply(value, false);
  if (kind == "MODEL") return apply(value, true);
  if (kind == "NAME=MODEL") {
    const auto equal = value.find('=');
    if (equal != value.npos && equal + 1 < value.size()) {
      return value.substr(0, equal + 1) + apply(value.substr(equal + 1), true);
    }
  }
  return value;
}

/// A name on the Hugging Face Hub, rather than a path. \param path that it would be
bool is_hub_name(const std::string& text, const fs::path& path) {
  std::error_code ignored;
  return ip2p::HubName::parse(text).has_value() && !fs::exists(path, ignored);
}

/// A value in a file in `folder`, as the program takes it.
std::string from_folder(const std::string& kind, const std::string& value, const fs::path& folder) {
  return with_path(kind, value, [&](const std::string& text, bool is_model) {
    if (folder.empty() || fs::path(text).is_absolute()) return text;
    const auto path = folder / text;
    return is_model && is_hub_name(text, path) ? text : path.lexically_normal().string();
  });
}

/// The reverse; an absolute path if `folder` is empty.
std::string to_folder(const std::string& kind, const std::string& value, const fs::path& folder) {
  return with_path(kind, value, [&](const std::string& text, bool is_model) {
    if (fs::path(text).is_absolute() || (is_model && is_hub_name(text, text))) return text;
    const auto path = fs::absolute(text).lexically_normal();
    return folder.empty() ? path.string()
                          : path.lexically_relative(fs::weakly_canonical(fs::absolute(folder))).string();
  });
}

std::string toml_value(const std::string& text) {
  // A number as TOML and JSON have it; "007" and "+1" are written as texts, so that they come back as they were.
  const bool number = text.find_first_not_of("0123456789+-.eE") == text.npos && nlohmann::json::accept(text);
  if (number) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

/// None where the program decides.
std::vector<std::string> defaults_of(const CLI::Option& option) {
  const auto standard = option.get_default_str();
  if (standard.empty()) return {};
  const bool list = option.get_items_expected_max() > 1 && standard.front() == '[' && standard.back() == ']';
  return list ? CLI::detail::split(standard.substr(1, standard.size() - 2), ',') : std::vector{standard};
}

/// "key = value", or nothing for an option that is not in effect.
std::string line_of(const CLI::Option& option, const fs::path& folder) {
  const auto name = option.get_lnames().front();
  if (is_flag(option)) {
    // Some flags turn off what is on, and store the opposite of what was typed.
    const bool reversed = option.get_flag_value(name, "true") == "false";
    const bool given = !option.results().empty() && ((option.results().back() == "true") != reversed);
    return fmt::format("{} = {}\n", name, given);
  }
  const auto values = option.results().empty() ? defaults_of(option) : option.results();
  if (values.empty()) return {};
  std::vector<std::string> written;
  for (const auto& value : values) written.push_back(toml_value(to_folder(value_name(option), value, folder)));
  const bool list = option.get_items_expected_max() > 1;
  return list ? fmt::format("{} = [{}]\n", name, fmt::join(written, ", ")) : fmt::format("{} = {}\n", name, written[0]);
}

std::string lines_of(CLI::App& app, const fs::path& folder) {
  std::string text;
  for (auto* option : options_of(app)) {
    const bool named = option->get_configurable() && !option->get_lnames().empty() && by_new_name(option) == option;
    if (named) text += line_of(*option, folder);
  }
  return text;
}

}  // namespace

std::vector<CLI::ConfigItem> ConfigFile::from_config(std::istream& input) const {
  const auto name = option_->results().empty() ? std::string() : option_->results().back();
  const auto folder = fs::path(name).parent_path();
  const auto wrong = [&](const Entry& entry, const std::string& what) {
    throw CLI::ConfigError(fmt::format("--config: {}, line {}: {}", name, entry.line, what),
                           CLI::ExitCodes::ConfigError);
  };
  std::vector<CLI::ConfigItem> items;
  for (const auto& entry : TomlReader({std::istreambuf_iterator<char>(input), {}}, name).entries()) {
    auto* owner = app_;
    if (!entry.tables.empty()) {
      const auto& table = entry.tables.front();
      const auto found = app_->get_subcommands([&](CLI::App* command) { return command->get_name() == table; });
      if (entry.tables.size() > 1 || found.empty()) {
        wrong(entry, fmt::format("unknown table [{}]", fmt::join(entry.tables, ".")));
      }
      owner = found.front();
    }
    CLI::Option* option = nullptr;
    for (auto* candidate : options_of(*owner)) {
      if (!candidate->check_lname(entry.key)) continue;
      option = by_new_name(candidate);
      if (option != candidate) {
        note_old_name(fmt::format("{}, line {}: {}", name, entry.line, entry.key), option->get_lnames().front());
      }
    }
    if (option == nullptr) {
      wrong(entry, fmt::format("unknown key '{}'{}", entry.key, did_you_mean(*owner, entry.key)));
    } else if (!option->get_configurable()) {
      wrong(entry, fmt::format("{} is for the command line only", entry.key));
    }
    // The table of a subcommand that was not given is checked, and not used.
    if ((owner != app_ && owner != &chosen(*app_)) || entry.values.empty()) continue;
    CLI::ConfigItem item{.parents = entry.tables, .name = option->get_lnames().front(), .inputs = {}};
    for (const auto& value : entry.values) item.inputs.push_back(from_folder(value_name(*option), value, folder));
    // What is as it would be anyway counts as not given, so that it excludes and needs no other option.
    const bool off = is_flag(*option) && entry.values.front() == "false";
    if (!off && (is_flag(*option) || item.inputs != defaults_of(*option))) items.push_back(std::move(item));
  }
  return items;
}

std::string ConfigFile::to_config(const CLI::App*, bool, bool, std::string) const { return config_text(*app_, {}); }

std::string config_text(CLI::App& app, const fs::path& folder) {
  auto text = lines_of(app, folder);
  if (&chosen(app) != &app) text += fmt::format("[{}]\n", chosen(app).get_name()) + lines_of(chosen(app), folder);
  return text;
}

}  // namespace example
