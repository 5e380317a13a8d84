#include "option_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/io/nearest_names.hpp"
#include "ip2p/version.hpp"

namespace example {

namespace {

/// The options that go by an old name, and those that they stand for.
std::map<const CLI::Option*, CLI::Option*>& old_names() {
  static std::map<const CLI::Option*, CLI::Option*> all;
  return all;
}

std::string long_name(const CLI::Option& option) {
  const auto& names = option.get_lnames();
  return names.empty() ? option.get_name() : "--" + names.front();
}

/// The nearest of `names`, or nothing where none is near.
std::string nearest(std::string_view typed, const std::vector<std::string>& names) {
  std::string best;
  auto least = std::max<std::size_t>(typed.size() / 3, 1) + 1;
  const auto consider = [&](const std::string& name, std::size_t distance) {
    if (distance >= least) return;
    least = distance;
    best = name;
  };
  for (const auto& name : names) consider(name, ip2p::detail::edit_distance(typed, name));
  if (!best.empty() || typed.size() < 3) return best;
  // "--negative" for --negative-prompt, "--scale" for --text-scale.
  for (const auto& name : names) {
    if (name.starts_with(typed)) return name;
  }
  for (const auto& name : names) {
    if (name.ends_with("-" + std::string(typed))) return name;
  }
  return {};
}

/// The subcommand that was given, if any, and the program, whose options it takes as well.
std::vector<CLI::App*> given_apps(CLI::App& app) {
  auto* command = &chosen(app);
  return command == &app ? std::vector{&app} : std::vector{command, &app};
}

/// Of the options that may be given now, without dashes: what may be typed, and what the option is called.
std::map<std::string, std::string> known_names(CLI::App& app) {
  std::map<std::string, std::string> names;
  for (auto* of : given_apps(app)) {
    for (auto* option : options_of(*of)) {
      const auto* now = by_new_name(option);
      if (now->get_group().empty()) continue;
      for (const auto& name : option->get_lnames()) names[name] = now == option ? name : now->get_lnames().front();
    }
  }
  return names;
}

std::vector<std::string> subcommand_names(CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](CLI::App*) { return true; })) {
    if (!command->get_name().empty()) names.push_back(command->get_name());
  }
  return names;
}

/// "INT in [1 - 100]" as "1 to 100"; "{a,b}" as its names.
void add_check(nlohmann::ordered_json& row, const std::string& check) {
  if (const auto begin = check.find(" in ["), end = check.rfind(']'); begin != check.npos && end != check.npos) {
    auto bounds = check.substr(begin + 5, end - begin - 5);
    if (const auto dash = bounds.find(" - "); dash != bounds.npos) bounds.replace(dash, 3, " to ");
    row["range"] = bounds;
  } else if (check.starts_with("{") && check.ends_with("}")) {
    std::string name;
    for (const char c : check.substr(1)) {
      if (c == ',' || c == '}') {
        row["choices"].push_back(std::exchange(name, {}));
      } else {
        name += c;
      }
    }
  }
}

nlohmann::ordered_json row_of(const CLI::Option& option) {
  nlohmann::ordered_json row{{"name", long_name(option)}};
  const bool flag = option.get_items_expected_max() == 0;
  row["value"] = flag ? "" : value_name(option);
  // Defaults that depend on the model, and the like, are stated in the description.
  auto meaning = option.get_description();
  auto standard = flag ? std::string() : option.get_default_str();
  constexpr std::string_view mark = " (default: ";
  if (const auto begin = meaning.rfind(mark); begin != meaning.npos && meaning.ends_with(')')) {
    standard = meaning.substr(begin + mark.size(), meaning.size() - begin - mark.size() - 1);
    meaning.resize(begin);
  }
  const bool list = option.get_items_expected_max() >= CLI::detail::expected_max_vector_size;
  if (list && standard.starts_with('[')) {
    standard = standard.substr(1, standard.size() - 2);
    std::replace(standard.begin(), standard.end(), ',', ' ');
  }
  row["default"] = option.get_required() ? "required" : standard;
  row["meaning"] = meaning;
  row["list"] = list;
  const auto type = option.get_type_name();
  if (const auto colon = type.find(':'); !flag && colon != type.npos) add_check(row, type.substr(colon + 1));
  return row;
}

nlohmann::ordered_json rows_of(CLI::App& app) {
  auto rows = nlohmann::ordered_json::array();
  for (const auto* option : options_of(app)) {
    if (option->get_group().empty()) continue;
    auto row = row_of(*option);
    for (const auto& [before, now] : old_names()) {
      if (now == option) row["old_names"].push_back(long_name(*before));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::vector<CLI::Option*> options_of(CLI::App& app) {
  auto options = app.get_options();
  for (auto* group : app.get_subcommands([](CLI::App* command) { return command->get_name().empty(); })) {
    const auto own = options_of(*group);
    options.insert(options.end(), own.begin(), own.end());
  }
  return options;
}

CLI::App& chosen(CLI::App& app) {
  const auto given = app.get_subcommands();
  return given.empty() ? app : *given.front();
}

CLI::Option* old_name(CLI::App& app, CLI::Option* option, const std::string& before) {
  const auto note = [option, before] { note_old_name(before, long_name(*option)); };
  CLI::Option* old = nullptr;
  if (option->get_items_expected_max() == 0) {
    old = app.add_flag_function(before, [=](std::int64_t) {
      note();
      option->add_result(std::string("true"));
    });
  } else {
    old = app.add_option_function<std::vector<std::string>>(before, [=](const std::vector<std::string>& values) {
      note();
      option->add_result(values);
    });
    old->type_size(option->get_type_size_min(), option->get_type_size_max());
    old->expected(option->get_expected_min(), option->get_expected_max());
  }
  // At once, so that what depends on the option finds it given.
  old->trigger_on_parse()->group("")->configurable(false);
  old_names()[old] = option;
  return old;
}

void note_old_name(const std::string& before, const std::string& now) {
  fmt::print(stderr, "note: {} is now called {}; its old name will go with the next version\n", before, now);
}

CLI::Option* by_new_name(CLI::Option* option) {
  const auto found = old_names().find(option);
  return found == old_names().end() ? option : found->second;
}

CLI::Option* option_named(CLI::App& app, const std::string& name) {
  for (auto* of : given_apps(app)) {
    for (auto* option : options_of(*of)) {
      if (option->check_lname(name)) return option;
    }
  }
  return nullptr;
}

std::string did_you_mean(CLI::App& app, std::string_view typed) {
  while (typed.starts_with('-')) typed.remove_prefix(1);
  std::string name(typed);
  std::replace(name.begin(), name.end(), '_', '-');
  const auto known = known_names(app);
  std::vector<std::string> names;
  for (const auto& [one, now] : known) names.push_back(one);
  const auto found = nearest(name, names);
  return found.empty() ? std::string() : fmt::format("; did you mean --{}?", known.at(found));
}

std::string misused_words(CLI::App& app) {
  const auto words = app.remaining(true);
  const auto commands = subcommand_names(app);
  if (!commands.empty() && app.get_subcommands().empty() && !words.empty() && !words.front().starts_with('-')) {
    const auto near = nearest(words.front(), commands);
    return near.empty() ? fmt::format("expected a subcommand, {}, found '{}'", fmt::join(commands, ", "), words.front())
                        : fmt::format("unknown subcommand '{}'; did you mean {}?", words.front(), near);
  }
  std::vector<std::string> problems;
  std::string stray;
  for (const auto& word : words) {
    if (word == "--") continue;
    if (word.size() > 1 && word.starts_with('-')) {
      const auto name = word.substr(0, word.find('='));
      const auto hint = did_you_mean(app, name);
      problems.push_back(
          fmt::format("unknown option '{}'{}", name, hint.empty() ? std::string("; --help lists all") : hint));
    } else if (stray.empty()) {
      stray = word;
    }
  }
  for (auto* of : given_apps(app)) {
    for (const auto* option : options_of(*of)) {
      if (old_names().contains(option)) continue;
      const auto& values = option->results();
      const auto most = option->get_items_expected_max();
      if (most == 0) continue;
      for (const auto& value : values) {
        if (value.starts_with("--") && option_named(app, value.substr(2)) != nullptr) {
          problems.push_back(fmt::format("{}: expected a value, found the option {}", long_name(*option), value));
        }
      }
      if (option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw &&
          values.size() > static_cast<std::size_t>(most)) {
        problems.push_back(
            fmt::format("{} was given {}: '{}'", long_name(*option),
                        values.size() == 2 ? std::string("twice") : fmt::format("{} times", values.size()),
                        values.size() == 2 ? fmt::format("{}' and '{}", values[0], values[1])
                                           : fmt::format("{}", fmt::join(values, "', '"))));
      }
    }
  }
  if (problems.empty() && !stray.empty()) {
    problems.push_back(fmt::format("expected an option, found '{}'; a text of several words needs quotes", stray));
  }
  return fmt::format("{}", fmt::join(problems, "\n"));
}

std::string value_name(const CLI::Option& option) {
  auto type = option.get_type_name();
  constexpr std::string_view scaled = "FILE[:SCALE]";
  if (const auto place = type.find(scaled); place != type.npos) return type.substr(0, place + scaled.size());
  type = type.substr(0, type.find(':'));
  if (type == "INT" || type == "UINT") return "N";
  if (type == "FLOAT") return "X";
  return type;
}

nlohmann::ordered_json option_table(CLI::App& app) {
  nlohmann::ordered_json table{{"name", app.get_name()},
                               {"version", std::string(ip2p::version)},
                               {"description", app.get_description()},
                               {"options", rows_of(app)}};
  table["notes"] = app.get_footer();
  table["subcommands"] = nlohmann::ordered_json::array();
  for (auto* command : app.get_subcommands([](CLI::App* of) { return !of->get_name().empty(); })) {
    table["subcommands"].push_back(
        {{"name", command->get_name()}, {"description", command->get_description()}, {"options", rows_of(*command)}});
  }
  return table;
}

}  // namespace example
