#include "edit_request.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "fault.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/utf8.hpp"

namespace studio {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 12> names{"instruction", "negative", "text_scale", "image_scale",
                                                 "steps",       "seed",     "sampler",    "schedule",
                                                 "count",       "grid",     "full_size",  "preview_every"};
constexpr std::array<std::string_view, 2> axes{"text_scale", "image_scale"};

/// Values of an object, each with its name in messages.
class Fields {
 public:
  template <class Names>
  Fields(const json& object, std::string where, const Names& known) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) {
      throw wrong_value(where_, fmt::format("expected an object, found {}", ip2p::detail::json_text(object)));
    }
    for (const auto& [name, value] : object.items()) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      throw Fault(400, "unknown_field",
                  fmt::format("{}: there is no '{}'; known are {}", where_, ip2p::detail::printable(name),
                              fmt::join(known, ", ")),
                  where_);
    }
  }

  [[nodiscard]] const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] std::string path(const char* name) const { return where_ + "." + name; }

  template <class Number>
  void whole(const char* name, Number& value, Number least, Number most) const {
    const auto* found = find(name);
    if (found == nullptr) return;
    const bool natural = found->is_number_unsigned() || (found->is_number_integer() && found->get<std::int64_t>() >= 0);
    const bool fits = natural && found->get<std::uint64_t>() >= static_cast<std::uint64_t>(least) &&
                      found->get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
    if (!fits) {
      throw wrong_value(path(name), fmt::format("expected a whole number from {} to {}, found {}", least, most,
                                                ip2p::detail::json_text(*found)));
    }
    value = found->get<Number>();
  }

  void scale(const char* name, double& value, double most) const {
    if (const auto* found = find(name)) value = scale_of(*found, path(name), most);
  }

  static double scale_of(const json& found, const std::string& path, double most) {
    const double value = found.is_number() ? found.get<double>() : std::nan("");
    if (!(std::abs(value) <= most)) {
      throw wrong_value(
          path, fmt::format("expected a number from {} to {}, found {}", -most, most, ip2p::detail::json_text(found)));
    }
    return value;
  }

  void text(const char* name, std::string& value, std::size_t most) const {
    const auto* found = find(name);
    if (found == nullptr) return;
    if (!found->is_string()) {
      throw wrong_value(path(name), fmt::format("expected a text, found {}", ip2p::detail::json_text(*found)));
    }
    value = found->get<std::string>();
    if (ip2p::detail::first_invalid_utf8(value)) throw wrong_value(path(name), "expected UTF-8");  // of a form's field
    if (value.size() > most) {
      throw Fault(400, "too_large",
                  fmt::format("{}: expected at most {} bytes, found {}", path(name), most, value.size()), path(name));
    }
    if (value.find('\0') != value.npos) throw wrong_value(path(name), "expected a text without zeros");
  }

  void one_of(const char* name, std::string& value, const std::vector<std::string>& known) const {
    text(name, value, 100);
    if (find(name) == nullptr || std::find(known.begin(), known.end(), value) != known.end()) return;
    throw wrong_value(path(name), fmt::format("expected one of {}, found '{}'", fmt::join(known, ", "),
                                              ip2p::detail::printable(value)));
  }

  void flag(const char* name, bool& value) const {
    const auto* found = find(name);
    if (found == nullptr) return;
    if (!found->is_boolean()) {
      throw wrong_value(path(name), fmt::format("expected true or false, found {}", ip2p::detail::json_text(*found)));
    }
    value = found->get<bool>();
  }

  void scales(const char* name, std::vector<double>& values, const Limits& limits) const {
    const auto* found = find(name);
    if (found == nullptr) return;
    if (!found->is_array() || found->empty() || static_cast<std::int64_t>(found->size()) > limits.count) {
      throw wrong_value(path(name), fmt::format("expected a list of 1 to {} numbers, found {}", limits.count,
                                                ip2p::detail::json_text(*found)));
    }
    for (const auto& value : *found) values.push_back(scale_of(value, path(name), limits.scale));
  }

 private:
  const json& object_;
  std::string where_;
};

void read_grid(const json& given, EditRequest& request, const Limits& limits) {
  const Fields grid(given, "settings.grid", axes);
  grid.scales("text_scale", request.text_scales, limits);
  grid.scales("image_scale", request.image_scales, limits);
  if (request.text_scales.empty() && request.image_scales.empty()) {
    throw wrong_value("settings.grid", "expected text_scale, image_scale or both");
  }
  if (request.text_scales.empty()) request.text_scales = {request.text_scale};
  if (request.image_scales.empty()) request.image_scales = {request.image_scale};
  const auto cells = request.text_scales.size() * request.image_scales.size();
  if (static_cast<std::int64_t>(cells) > limits.count) {
    throw wrong_value("settings.grid", fmt::format("expected at most {} cells, found {}", limits.count, cells));
  }
  if (request.count != 1) throw wrong_value("settings.count", "cannot be combined with grid");
}

}  // namespace

std::vector<Cell> EditRequest::cells() const {
  std::vector<Cell> cells;
  for (std::int64_t i = 0; text_scales.empty() && i < count; ++i) {
    cells.push_back({seed + static_cast<std::uint64_t>(i), text_scale, image_scale});
  }
  for (const double text : text_scales) {
    for (const double image : image_scales) cells.push_back({seed, text, image});
  }
  return cells;
}

EditRequest parse_request(std::string_view text, const ModelInfo& model, const Limits& limits) {
  json settings;
  try {
    settings = ip2p::detail::parse_json(text);
  } catch (const json::exception& error) {
    throw wrong_value("settings", ip2p::detail::json_fault(error));
  }
  return request_of(settings, model, limits);
}

EditRequest request_of(const json& settings, const ModelInfo& model, const Limits& limits) {
  const Fields fields(settings, "settings", names);
  EditRequest request{
      .text_scale = model.text_scale, .image_scale = model.image_scale, .steps = model.steps, .sampler = model.sampler};
  fields.text("instruction", request.instruction, limits.text);
  if (request.instruction.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Fault(400, fields.find("instruction") == nullptr ? "missing_field" : "wrong_value",
                "settings.instruction: expected what to do, found no words", "settings.instruction");
  }
  fields.text("negative", request.negative, limits.text);
  fields.scale("text_scale", request.text_scale, limits.scale);
  fields.scale("image_scale", request.image_scale, limits.scale);
  fields.whole<std::int64_t>("steps", request.steps, 1, limits.steps);
  fields.whole<std::uint64_t>("seed", request.seed, 0, limits.seed);
  fields.one_of("sampler", request.sampler, model.samplers);
  fields.one_of("schedule", request.schedule, model.schedules);
  if (request.schedule == model.schedule) request.schedule.clear();
  fields.whole<std::int64_t>("count", request.count, 1, limits.count);
  if (request.seed > limits.seed - static_cast<std::uint64_t>(request.count - 1)) {
    throw wrong_value("settings.seed",
                      fmt::format("expected the last of {} seeds to be at most {}, found {}", request.count,
                                  limits.seed, request.seed + static_cast<std::uint64_t>(request.count - 1)));
  }
  if (const auto* grid = fields.find("grid")) read_grid(*grid, request, limits);
  fields.flag("full_size", request.full_size);
  fields.whole<std::int64_t>("preview_every", request.preview_every, 0, limits.steps);
  return request;
}

nlohmann::ordered_json request_of_options(const nlohmann::ordered_json& options) {
  static constexpr std::array<std::pair<const char*, const char*>, 9> renamed{{{"prompt", "instruction"},
                                                                               {"negative-prompt", "negative"},
                                                                               {"text-scale", "text_scale"},
                                                                               {"image-scale", "image_scale"},
                                                                               {"steps", "steps"},
                                                                               {"seed", "seed"},
                                                                               {"sampler", "sampler"},
                                                                               {"schedule", "schedule"},
                                                                               {"full-size", "full_size"}}};
  nlohmann::ordered_json settings = nlohmann::ordered_json::object();
  for (const auto& [option, name] : renamed) {
    if (options.contains(option)) settings[name] = options[option];
  }
  return settings;
}

}  // namespace studio
