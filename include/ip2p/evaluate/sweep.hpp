#pragma once

/// \file
/// Points at which editors are compared: one setting of a method varies, everything else is fixed.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

namespace detail {

/// Parses `text` as a finite number into `value`; false if it is not one.
inline bool finite_number(std::string_view text, double& value) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

/// Splits `text` at separators; "" has one empty part.
inline std::vector<std::string> parts_of(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const auto end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == text.size()) return parts;
    begin = end + 1;
  }
}

}  // namespace detail

/// Settings of a method by name, as text: "image-scale" is "1.4".
class EditSettings {
 public:
  EditSettings() = default;
  /// \param values by name
  explicit EditSettings(std::map<std::string, std::string> values) : values_(std::move(values)) {}

  /// Adds a setting, or replaces it.
  void set(const std::string& name, std::string value) { values_[name] = std::move(value); }
  /// Whether there is one of that name.
  [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
  /// All of them, by name.
  [[nodiscard]] const std::map<std::string, std::string>& values() const { return values_; }

  /// \throws Error if there is no setting of that name
  [[nodiscard]] const std::string& text(const std::string& name) const {
    const auto found = values_.find(name);
    require(found != values_.end(), "settings: expected {}, found none", name);
    return found->second;
  }

  /// \throws Error unless it is a finite number
  [[nodiscard]] double number(const std::string& name) const {
    double value = 0;
    require(detail::finite_number(text(name), value), "{}: expected a finite number, found '{}'", name, text(name));
    return value;
  }

  /// \throws Error unless it is a whole number from 1 to a million
  [[nodiscard]] std::int64_t count(const std::string& name) const {
    const double value = number(name);
    require(value >= 1 && value <= 1e6 && value == std::floor(value),
            "{}: expected a whole number from 1 to 1000000, found '{}'", name, text(name));
    return static_cast<std::int64_t>(value);
  }

  /// "image-scale=1.4 steps=100", sorted by name.
  [[nodiscard]] std::string describe() const {
    std::string all;
    for (const auto& [name, value] : values_) all += (all.empty() ? "" : " ") + name + "=" + value;
    return all;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// One point of a curve.
struct SweepPoint {
  std::string curve;      ///< Name of the curve in figures.
  std::string method;     ///< Name of the method that makes the pictures.
  std::string label;      ///< The value that varies along the curve; empty if none does.
  EditSettings settings;  ///< All settings of the method, that of the curve included.

  /// Everything that its pictures depend on besides the edit: points with equal keys are the same, whatever their
  /// names.
  [[nodiscard]] std::string key() const {
    const auto all = settings.describe();
    return all.empty() ? method : method + " " + all;
  }
};

/// Parses values: "1:2.2:0.2" (first, last, step; the last is included despite rounding), "euler,heun", or a single
/// value. \throws Error for an invalid range, more than 1000 values, and empty or duplicate values
inline std::vector<std::string> sweep_values(const std::string& text) {
  if (text.find(':') == text.npos) {
    auto values = detail::parts_of(text, ',');
    for (auto value = values.begin(); value != values.end(); ++value) {
      require(!value->empty(), "values: expected one between commas, found none in '{}'", text);
      require(std::find(values.begin(), value, *value) == value, "values: expected each once, found '{}' twice in '{}'",
              *value, text);
    }
    return values;
  }
  const auto parts = detail::parts_of(text, ':');
  double first = 0, last = 0, step = 0;
  require(parts.size() == 3 && detail::finite_number(parts[0], first) && detail::finite_number(parts[1], last) &&
              detail::finite_number(parts[2], step) && step > 0 && last >= first && (last - first) / step < 1000,
          "values: expected FIRST:LAST:STEP with FIRST <= LAST, STEP > 0 and at most 1000 values, found '{}'", text);
  std::vector<std::string> values;
  const auto count = static_cast<std::int64_t>(std::floor((last - first) / step + 1e-6)) + 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = first + static_cast<double>(i) * step;
    values.push_back(fmt::format("{:.10g}", std::abs(value) < step * 1e-9 ? 0.0 : value));
  }
  return values;
}

/// A curve: a method, its settings, and the values that one of them takes.
struct Sweep {
  std::string name, method;         ///< Of the curve in figures, and of the method that draws it.
  std::string parameter;            ///< Name of the setting that varies; empty for a single point.
  std::vector<std::string> values;  ///< Of `parameter`.
  EditSettings settings;            ///< The fixed settings.

  /// Parses text such as "instruct image-scale=1:2.2:0.2 text-scale=7.5 name=ours": the method, then its settings, at
  /// most one of them with several values. The curve's name defaults to the method's.
  /// \throws Error for anything else
  static Sweep parse(const std::string& text) {
    Sweep sweep;
    for (const auto& word : detail::parts_of(text, ' ')) {
      if (word.empty()) continue;
      if (sweep.method.empty()) {
        require(word.find('=') == word.npos, "curve '{}': expected a method first, found '{}'", text, word);
        sweep.method = word;
        continue;
      }
      const auto equal = word.find('=');
      require(equal != word.npos && equal > 0 && equal + 1 < word.size(),
              "curve '{}': expected NAME=VALUE after the method, found '{}'", text, word);
      const auto name = word.substr(0, equal);
      if (name == "name") {
        require(sweep.name.empty(), "curve '{}': expected one name, found two", text);
        sweep.name = word.substr(equal + 1);
        continue;
      }
      require(!sweep.settings.has(name) && sweep.parameter != name, "curve '{}': expected {} once, found it twice",
              text, name);
      auto values = sweep_values(word.substr(equal + 1));
      if (values.size() == 1) {
        sweep.settings.set(name, values.front());
        continue;
      }
      require(sweep.parameter.empty(), "curve '{}': expected one setting with several values, found {} and {}", text,
              sweep.parameter, name);
      sweep.parameter = name;
      sweep.values = std::move(values);
    }
    require(!sweep.method.empty(), "curve: expected a method and its settings, found none");
    if (sweep.name.empty()) sweep.name = sweep.method;
    return sweep;
  }

  /// Fills in missing settings. \param defaults every setting that the method reads
  /// \throws Error for a setting that it does not read
  void complete(const std::map<std::string, std::string>& defaults) {
    std::string known;
    for (const auto& [name, value] : defaults) known += (known.empty() ? "" : ", ") + name;
    const auto check = [&](const std::string& setting) {
      require(defaults.contains(setting), "curve '{}': {}: expected settings among {}, found '{}'", name, method,
              known.empty() ? "none" : known, setting);
    };
    for (const auto& [setting, value] : settings.values()) check(setting);
    if (!parameter.empty()) check(parameter);
    for (const auto& [setting, value] : defaults) {
      if (!settings.has(setting) && setting != parameter) settings.set(setting, value);
    }
  }

  /// One point for each of `values`, or a single one without a parameter.
  [[nodiscard]] std::vector<SweepPoint> points() const {
    if (parameter.empty()) return {{name, method, "", settings}};
    std::vector<SweepPoint> all;
    for (const auto& value : values) {
      all.push_back({name, method, value, settings});
      all.back().settings.set(parameter, value);
    }
    return all;
  }
};

}  // namespace ip2p
