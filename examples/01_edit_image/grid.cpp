#include "grid.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "editing.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "support/labels.hpp"
#include "support/number.hpp"

namespace edit_image {
namespace {

constexpr std::array<std::string_view, 6> names{"text-scale", "image-scale", "steps", "seed", "sampler", "schedule"};

template <class Names>
std::string member_problem(const Names& known, const std::string& value) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return {};
  return fmt::format("expected one of {}, found '{}'", fmt::join(known, ", "), value);
}

/// Empty for a value that the axis may take, otherwise the error message.
std::string value_problem(const std::string& name, const std::string& value) {
  if (name == "sampler") return member_problem(ip2p::AnySampler::names(), value);
  if (name == "schedule") return member_problem(ip2p::AnySchedule::names(), value);
  if (name == "seed") return example::whole_number(value);
  if (name == "steps") {
    std::int64_t steps = 0;
    const bool fits = example::parse_number(value, steps) && steps >= 1 && steps <= 10000;
    return fits ? std::string() : fmt::format("expected a whole number from 1 to 10000, found '{}'", value);
  }
  return example::guidance_scale(value);
}

Axis axis_of(const std::string& text) {
  const auto equals = text.find('=');
  Axis axis{text.substr(0, equals), {}};
  for (auto begin = equals; begin != text.npos;) {
    const auto end = text.find(',', begin + 1);
    axis.values.push_back(text.substr(begin + 1, end == text.npos ? end : end - begin - 1));
    begin = end;
  }
  return axis;
}

/// "text scale 7.5"
std::string label(const Axis& axis, const std::string& value) {
  auto name = axis.name;
  std::replace(name.begin(), name.end(), '-', ' ');
  return fmt::format("{} {}", name, value);
}

}  // namespace

std::string axis_problem(const std::string& text) {
  const auto axis = axis_of(text);
  if (auto problem = member_problem(names, axis.name); !problem.empty()) {
    return fmt::format("expected NAME=VALUE,VALUE,..., found '{}': {}", text, problem);
  }
  if (axis.values.empty()) return fmt::format("expected NAME=VALUE,VALUE,..., found '{}'", text);
  for (const auto& value : axis.values) {
    if (auto problem = value_problem(axis.name, value); !problem.empty()) {
      return fmt::format("{}: {}", axis.name, problem);
    }
  }
  return {};
}

std::vector<Axis> axes_of(const std::vector<std::string>& texts) {
  std::vector<Axis> axes;
  for (const auto& text : texts) axes.push_back(axis_of(text));
  ip2p::require(axes.size() <= 2, "--grid: expected one or two axes, found {}", axes.size());
  ip2p::require(axes.size() < 2 || axes[0].name != axes[1].name, "--grid: expected two different axes, found {} twice",
                axes[0].name);
  return axes;
}

void set(example::RunOptions& run, const Axis& axis, const std::string& value) {
  if (axis.name == "sampler") {
    run.sampler = value;
  } else if (axis.name == "schedule") {
    run.schedule = value;
  } else if (axis.name == "seed") {
    example::parse_number(value, run.seed);
  } else if (axis.name == "steps") {
    example::parse_number(value, run.steps.emplace());
  } else {
    example::parse_number(value, (axis.name == "text-scale" ? run.text_scale : run.image_scale).emplace());
  }
}

ip2p::Image draw_grid(Editing& editing, const Photograph& photograph, const std::string& prompt,
                      const std::vector<Axis>& axes) {
  const auto given = editing.run();
  const Axis rows = axes.size() > 1 ? axes[1] : Axis{"", {""}};
  example::Sheet sheet;
  sheet.columns.emplace_back("photograph");
  for (const auto& value : axes[0].values) sheet.columns.push_back(label(axes[0], value));
  for (std::size_t row = 0; row < rows.values.size(); ++row) {
    sheet.rows.push_back(axes.size() > 1 ? label(rows, rows.values[row]) : "");
    auto& pictures = sheet.pictures.emplace_back();
    pictures.push_back(row == 0 ? editing.before(photograph) : ip2p::Image{});
    for (const auto& value : axes[0].values) {
      auto run = given;
      set(run, axes[0], value);
      if (axes.size() > 1) set(run, rows, rows.values[row]);
      editing.configure(run);
      pictures.push_back(editing.edit({{&photograph, prompt, run.seed}}).pictures.front());
    }
  }
  editing.configure(given);
  // What the axes do not say.
  sheet.title = fmt::format("\"{}\", {}", prompt, editing.describe_settings(axes));
  return example::draw(sheet);
}

}  // namespace edit_image
