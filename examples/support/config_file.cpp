#include "config_file.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
// toml++ 3.3 asserts what a file decides, as in "scales = [}"; without assertions it says what is wrong with it.
#define TOML_ASSERT(expression) static_assert(true)
#include <toml++/toml.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/io/hub_cache.hpp"
#include "named.hpp"
#include "number.hpp"
#include "option_table.hpp"

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

[[noreturn]] void wrong(const std::string& name, std::size_t line, std::string_view what) {
  throw CLI::ConfigError(fmt::format("--config: {}, line {}: {}", name, line, what), CLI::ExitCodes::ConfigError);
}

/// A value as it would be typed.
std::string typed_value(const toml::node& node, const std::string& name) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return fmt::format("{}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (const auto* number = node.as_floating_point()) {
    const auto digits = fmt::format("{}", number->get());
    return digits.find_first_not_of("-0123456789") == digits.npos ? digits + ".0" : digits;
  }
  wrong(name, node.source().begin.line, "expected a number, true, false, a text or a list of these");
}

/// Adds the keys of `table` and of the tables in it. \param tables in which it lies  \param name of the file
void add_entries(const toml::table& table, const std::vector<std::string>& tables, const std::string& name,
                 std::vector<Entry>& all) {
  for (const auto& [key, node] : table) {
    const std::string text(key.str());
    if (const auto* inner = node.as_table()) {
      auto path = tables;
      path.push_back(text);
      add_entries(*inner, path, name, all);
      continue;
    }
    Entry entry{.tables = tables, .key = text, .values = {}, .line = key.source().begin.line};
    if (const auto* list = node.as_array()) {
      for (const auto& one : *list) entry.values.push_back(typed_value(one, name));
    } else {
      entry.values.push_back(typed_value(node, name));
    }
    all.push_back(std::move(entry));
  }
}

/// The keys of a file, in its order. \throws CLI::ConfigError
std::vector<Entry> entries_of(std::istream& input, const std::string& name) {
  std::vector<Entry> all;
  try {
    add_entries(toml::parse(input), {}, name, all);
  } catch (const toml::parse_error& problem) {
    wrong(name, problem.source().begin.line, problem.description());
  }
  std::ranges::stable_sort(all, {}, &Entry::line);
  return all;
}

/// `apply` to each path among an option's values; the rest as it is.
template <class Apply>
std::string with_path(const std::string& kind, const std::string& value, Apply&& apply) {
  if (value.empty() || value == "-") return value;  // "-" is a stream
  if (kind == "FILE" || kind == "FOLDER" || kind == "PATH" || kind == "FILE[:SCALE]") return apply(value, false);
  if (kind == "MODEL") return apply(value, true);
  // NAME=MODEL, [NAME=]MODEL and the like.
  const auto of = kind.find("NAME=");
  const auto name = leading_name(value);
  if (of == kind.npos || (of == 0 && name.empty())) return value;
  const auto inner = kind.substr(kind.find_first_not_of(']', of + 5));
  if (name.empty()) return with_path(inner, value, apply);
  return name + "=" + with_path(inner, value.substr(name.size() + 1), apply);
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
  // A number as TOML and JSON have it; "007" and "+1" are written as texts, so that they come back as they were, and so
  // are whole numbers beyond TOML's, which have a sign and 64 bits.
  const bool number = text.find_first_not_of("0123456789+-.eE") == text.npos && nlohmann::json::accept(text);
  std::int64_t whole = 0;
  if (number && (text.find_first_of(".eE") != text.npos || parse_number(text, whole))) return text;
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
  std::vector<CLI::ConfigItem> items;
  for (const auto& entry : entries_of(input, name)) {
    auto* owner = app_;
    if (!entry.tables.empty()) {
      const auto& table = entry.tables.front();
      const auto found = app_->get_subcommands([&](CLI::App* command) { return command->get_name() == table; });
      if (entry.tables.size() > 1 || found.empty()) {
        wrong(name, entry.line, fmt::format("unknown table [{}]", fmt::join(entry.tables, ".")));
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
      wrong(name, entry.line, fmt::format("unknown key '{}'{}", entry.key, did_you_mean(*owner, entry.key)));
    } else if (!option->get_configurable()) {
      wrong(name, entry.line, fmt::format("{} is for the command line only", entry.key));
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
