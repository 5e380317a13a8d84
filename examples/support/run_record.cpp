#include "run_record.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/sealed_json.hpp"
#include "number.hpp"

namespace example {
namespace {

/// Where and how a program works, and what it says about it. No result depends on these.
constexpr std::string_view free_everywhere[] = {"change",  "config", "device",      "download", "json",   "out",
                                                "preview", "quiet",  "save-config", "threads",  "verbose"};

void add_values(const CLI::App& command, OptionValues& values) {
  for (const auto* option : command.get_options()) {
    if (!option->get_configurable() || option->get_lnames().empty()) continue;
    auto& value = values[option->get_lnames().front()];
    if (option->count() > 0) {
      value = option->reduced_results();
    } else if (!option->get_default_str().empty()) {
      value = {option->get_default_str()};
    } else if (option->get_expected_min() == 0) {
      value = {"false"};
    }
  }
  // Groups of options are commands without a name.
  for (const auto* group : command.get_subcommands([](const CLI::App* part) { return part->get_name().empty(); })) {
    add_values(*group, values);
  }
}

bool has_parts(const nlohmann::json& value) { return value.is_object() && value.contains("parts"); }

/// The names of parts that are in both settings and not the same there.
std::vector<std::string> differing_parts(const nlohmann::json& a, const nlohmann::json& b) {
  std::vector<std::string> names;
  for (const auto& [name, content] : a["parts"].items()) {
    if (b["parts"].contains(name) && b["parts"][name] != content) names.push_back(name);
  }
  return names;
}

/// Whether two texts spell one value: the same text, or the same number.
bool same_value(const nlohmann::json& a, const nlohmann::json& b) {
  if (a == b) return true;
  if (has_parts(a) && has_parts(b)) return differing_parts(a, b).empty();
  if (a.is_object() && b.is_object() && a.contains("content") && b.contains("content")) {
    return a["content"] == b["content"];
  }
  if (a.is_array() && b.is_array()) return std::ranges::equal(a, b, same_value);
  if (!a.is_string() || !b.is_string()) return false;
  const auto first = a.get<std::string>(), second = b.get<std::string>();
  std::uint64_t whole = 0;
  if (parse_number(first, whole) && parse_number(second, whole)) return false;  // some have more digits than a double
  double x = 0, y = 0;
  return parse_number(first, x) && parse_number(second, y) && x == y;
}

std::string shown(const nlohmann::json& value) {
  if (value.is_null()) return "nothing";
  if (value.is_string()) return ip2p::detail::printable(value.get<std::string>());
  if (value.is_array()) {
    std::string all;
    for (const auto& one : value) all += (all.empty() ? "" : ", ") + shown(one);
    return all;
  }
  if (value.is_object() && value.contains("given")) return fmt::format("'{}'", shown(value["given"]));
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Adds the parts that only `had` names to those of `given`. \return whether `given` names others than `had`
bool join_parts(nlohmann::json& given, const nlohmann::json& had) {
  bool more = false;
  for (auto& [name, value] : given.items()) {
    if (!has_parts(value) || !had.contains(name) || !has_parts(had[name])) continue;
    const auto& before = had[name]["parts"];
    for (const auto& [part, content] : before.items()) value["parts"].emplace(part, content);
    more = more || value["parts"].size() > before.size();
  }
  return more;
}

/// Settings of `found` that differ from `wanted`, by name, with null for what it lacks.
nlohmann::json differing(const nlohmann::json& found, const nlohmann::json& wanted) {
  auto different = nlohmann::json::object();
  for (const auto* names : {&found, &wanted}) {
    for (const auto& [name, value] : names->items()) {
      const auto had = found.value(name, nlohmann::json());
      if (!same_value(had, wanted.value(name, nlohmann::json()))) different[name] = had;
    }
  }
  return different;
}

}  // namespace

OptionValues option_values(const CLI::App& command) {
  OptionValues values;
  add_values(command, values);
  return values;
}

void add_change(CLI::App& app, bool& change) {
  // A configuration that a run writes must not allow the next one to differ.
  app.add_flag("--change", change,
               "continue the run in --out with different settings; the run records from which point on they apply")
      ->configurable(false);
}

nlohmann::json settings_of(const OptionValues& values, std::initializer_list<std::string_view> free) {
  auto settings = nlohmann::json::object();
  for (const auto& [name, value] : values) {
    const auto is_name = [&name = name](std::string_view other) { return other == name; };
    if (std::ranges::any_of(free_everywhere, is_name) || std::ranges::any_of(free, is_name)) continue;
    auto& setting = settings["--" + name];
    if (value.size() == 1) setting = value.front();
    if (value.size() > 1) setting = value;
  }
  return settings;
}

nlohmann::json content_setting(const std::filesystem::path& given, const std::string& content) {
  return {{"given", given.string()}, {"content", content}};
}

nlohmann::json parts_setting(const std::filesystem::path& given, const std::map<std::string, std::string>& contents) {
  return {{"given", given.string()}, {"parts", contents}};
}

RunRecord::RunRecord(std::filesystem::path file, nlohmann::json settings, std::function<bool()> begun)
    : file_(std::move(file)), settings_(std::move(settings)), begun_(std::move(begun)) {
  record_ = ip2p::detail::read_sealed(file_).value_or(nlohmann::json::object());
  if (!record_.contains("settings")) record_ = nlohmann::json::object();
}

RunRecord::~RunRecord() {
  if (!made_) return;
  try {
    std::error_code ignored;
    if (!begun_()) std::filesystem::remove(file_, ignored);
  } catch (const std::exception&) {
    // Then it is not known, and the record stays.
  }
}

void RunRecord::compare() {
  if (record_.empty() || !begun_()) {
    record_ = nlohmann::json::object();
    return;
  }
  had_ = differing(record_["settings"], settings_);
  grown_ = join_parts(settings_, record_["settings"]);
}

void RunRecord::refuse(std::string_view advice) const {
  std::vector<std::string> lines;
  for (const auto& [name, had] : had_.items()) {
    const auto given = settings_.value(name, nlohmann::json());
    lines.push_back(fmt::format("{}: had {}, given {}{}", name, shown(had), shown(given),
                                given.is_object() || given.is_array() ? ", which holds something else" : ""));
    if (!has_parts(had) || !has_parts(given)) continue;
    auto parts = differing_parts(had, given);
    const auto count = parts.size();
    parts.resize(std::min<std::size_t>(count, 3));
    lines.back() += fmt::format(" ({}{})", fmt::join(parts, ", "), count > 3 ? ", ..." : "");
  }
  ip2p::throw_error("{}: belongs to a run with other settings: {}; {}", where(), fmt::join(lines, "; "), advice);
}

void RunRecord::agree(bool change) {
  compare();
  if (!had_.empty() && !change) refuse("pass --change to go on with those given, or write elsewhere");
}

void RunRecord::agree() {
  compare();
  if (!had_.empty()) refuse("write elsewhere");
}

void RunRecord::begin(std::int64_t step) {
  std::error_code ignored;
  // Another process that shared it may have failed and removed it.
  made_ = record_.empty() || !std::filesystem::exists(file_, ignored);
  const bool changed = !had_.empty();
  if (changed) {
    if (finished() > step) record_["finished"] = step;
    auto& changes = record_["changes"];
    if (changes.is_null()) changes = nlohmann::json::array();
    auto given = nlohmann::json::object();
    for (const auto& [name, had] : had_.items()) given[name] = settings_.value(name, nlohmann::json());
    changes.push_back({{"step", step}, {"had", std::exchange(had_, nullptr)}, {"given", given}});
  }
  if (made_ || changed || grown_) {
    record_["settings"] = settings_;
    write();
  }
  // Another process may have been faster.
  const auto found = ip2p::detail::read_sealed(file_).value_or(record_);
  const auto different = differing(found.value("settings", nlohmann::json::object()), settings_);
  ip2p::require(different.empty(), "{}: another process has begun the run with other settings: {} differ", where(),
                fmt::join(
                    [&] {
                      std::vector<std::string> names;
                      for (const auto& [name, had] : different.items()) names.push_back(name);
                      return names;
                    }(),
                    ", "));
}

void RunRecord::finish(std::int64_t step) {
  if (finished() == step) return;
  record_["finished"] = step;
  write();
}

std::int64_t RunRecord::finished() const { return record_.value("finished", std::int64_t{-1}); }

std::vector<std::string> RunRecord::changes() const {
  std::vector<std::string> lines;
  for (const auto& change : record_.value("changes", nlohmann::json::array())) {
    std::vector<std::string> parts;
    for (const auto& [name, had] : change.at("had").items()) {
      parts.push_back(fmt::format("{} {} -> {}", name, shown(had), shown(change.at("given").at(name))));
    }
    lines.push_back(fmt::format("after {} steps: {}", change.at("step").get<std::int64_t>(), fmt::join(parts, ", ")));
  }
  return lines;
}

std::string RunRecord::where() const {
  const auto name = file_.filename();
  return (name == "run.json" || name == ".run.json" ? file_.parent_path() : file_).string();
}

void RunRecord::write() const {
  ip2p::make_folder(file_.parent_path());
  ip2p::detail::write_sealed(file_, record_);
}

}  // namespace example
