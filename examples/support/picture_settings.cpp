#include "picture_settings.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/version.hpp"

namespace example {
namespace {

/// The last part of a path that exists; a name on the Hub stays as it is.
std::string name_of(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return path.string();
  const auto whole = std::filesystem::absolute(path, ignored).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

/// "folder/FILE:SCALE" without the folder.
std::string lora_name(const std::string& text) { return text.substr(text.rfind('/') + 1); }

/// What the front ends call a sampler or schedule.
std::string front_end_name(const std::string& name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 18> names{{
      {"euler-ancestral", "Euler a"},
      {"euler", "Euler"},
      {"heun", "Heun"},
      {"dpm2", "DPM2"},
      {"dpm2-ancestral", "DPM2 a"},
      {"lms", "LMS"},
      {"dpm++-2m", "DPM++ 2M"},
      {"dpm++-2s-ancestral", "DPM++ 2S a"},
      {"dpm++-2m-sde", "DPM++ 2M SDE"},
      {"dpm++-3m-sde", "DPM++ 3M SDE"},
      {"unipc", "UniPC"},
      {"ddim", "DDIM"},
      {"ddpm", "DDPM"},
      {"lcm", "LCM"},
      {"karras", "Karras"},
      {"exponential", "Exponential"},
      {"polyexponential", "Polyexponential"},
      {"align-your-steps", "Align Your Steps"},
  }};
  for (const auto& [ours, theirs] : names) {
    if (ours == name) return std::string(theirs);
  }
  return name;
}

/// A value as it would be typed.
std::string typed(const Settings& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const auto& part : value) parts.push_back(typed(part));
    return fmt::format("{}", fmt::join(parts, " "));
  }
  return value.dump();
}

/// As `typed`; a value with a comma or a line break would end early, so it is quoted as in JSON.
std::string field(const Settings& value) {
  const auto text = typed(value);
  return text.find_first_of(",:\n") == text.npos ? text : Settings(text).dump();
}

/// The settings that name files, of which a picture holds the names alone.
constexpr std::array<std::string_view, 6> files{"model", "vae", "base", "lora", "embedding", "latents"};

/// Throws `CLI::ValidationError` if the file that a setting names cannot be found.
void check_found(const std::string& name, const std::string& text) {
  const auto colon = name == "lora" ? text.rfind(':') : text.npos;
  std::error_code ignored;
  if (std::filesystem::exists(text, ignored) || std::filesystem::exists(text.substr(0, colon), ignored)) return;
  if ((name == "model" || name == "vae" || name == "base") && text.find('/') != text.npos) return;  // on the Hub
  throw CLI::ValidationError("--" + name, fmt::format("the picture of --like was made with '{}', which is not here; "
                                                      "name what to use",
                                                      text));
}

/// Gives an option the value of a setting, as if it had been typed.
void take(CLI::App& app, const std::string& name, const Settings& value, std::string_view where) {
  auto* option = app.get_option_no_throw("--" + name);
  if (option == nullptr) {
    throw CLI::ValidationError("--like", fmt::format("{}: the setting '{}' is not one of this program", where, name));
  }
  if (option->count() > 0) return;
  for (const auto& part : value.is_array() ? value : Settings::array({value})) {
    const auto text = typed(part);
    if (std::find(files.begin(), files.end(), name) != files.end()) check_found(name, text);
    option->add_result(part.is_boolean() ? option->get_flag_value(name, text) : text);
  }
  if (option->count() > 0) option->run_callback();
}

}  // namespace

Settings model_settings(const ModelOptions& o, const ip2p::OpenedModel& model) {
  Settings settings{{"model", name_of(o.model)}};
  const auto add_path = [&](const char* name, const std::filesystem::path& path) {
    if (!path.empty()) settings[name] = name_of(path);
  };
  const auto add_flag = [&](const char* name, bool given) {
    if (given) settings[name] = true;
  };
  add_path("vae", o.vae);
  add_path("base", o.base);
  for (const auto& lora : o.loras) settings["lora"].push_back(lora_name(lora));
  for (const auto& embedding : o.embeddings) settings["embedding"].push_back(lora_name(embedding));
  if (!o.variant.empty()) settings["variant"] = o.variant;
  if (!o.prediction_type.empty()) settings["prediction-type"] = o.prediction_type;
  add_flag("lora-partial", o.partial_loras);
  add_flag("no-ema", o.no_ema);
  add_flag("plain-prompts", !o.prompt_marks);
  const auto dtype = *model.options().dtype;
  settings["dtype"] = dtype == at::kFloat ? "fp32" : dtype == at::kHalf ? "fp16" : "bf16";
  add_flag("low-memory", o.low_memory);
  if (o.deep_cache != 1) settings["deep-cache"] = o.deep_cache;
  add_flag("tf32", o.tf32);
  add_flag("fp8", o.fp8);
  add_flag("int8", o.int8);
  add_flag("direct-convolution", o.direct_convolution);
  return settings;
}

Settings settings_json(std::string_view program, const Settings& options, const std::string& photo) {
  Settings json{{"ip2p", std::string(ip2p::version)}, {"program", program}};
  if (!photo.empty()) json["photo"] = photo;
  json["options"] = options;
  return json;
}

ip2p::PictureSettings picture_settings(std::string_view program, const Settings& options, const std::string& photo,
                                       std::int64_t width, std::int64_t height) {
  auto text = typed(options.at("prompt")) + "\n";
  if (options.contains("negative-prompt")) text += "Negative prompt: " + typed(options["negative-prompt"]) + "\n";
  text += fmt::format("Steps: {}, Sampler: {}", typed(options.at("steps")),
                      front_end_name(options.at("sampler").get<std::string>()));
  if (options.contains("schedule")) {
    text += fmt::format(", Schedule type: {}", front_end_name(options["schedule"].get<std::string>()));
  }
  text += fmt::format(", CFG scale: {}", typed(options.at("text-scale")));
  if (options.contains("image-scale")) text += fmt::format(", Image CFG scale: {}", typed(options["image-scale"]));
  text += fmt::format(", Seed: {}, Size: {}x{}, Model: {}, Version: ip2p {}", typed(options.at("seed")), width, height,
                      field(options.at("model")), ip2p::version);
  return {std::move(text), settings_json(program, options, photo).dump()};
}

Settings parsed_settings(const ip2p::PictureSettings& settings, std::string_view program, std::string_view where) {
  ip2p::require(!settings.json.empty(), "{}: expected a picture with settings of ip2p, found {}", where,
                settings.text.empty() ? "none" : "those of another program");
  Settings json;
  try {
    json = Settings::parse(settings.json);
  } catch (const nlohmann::json::exception& error) {
    ip2p::throw_error("{}: settings: {}", where, ip2p::detail::json_fault(error));
  }
  const auto holds = [&](const char* name, auto is) { return json.contains(name) && (json[name].*is)(); };
  ip2p::require(json.is_object() && holds("program", &Settings::is_string) && holds("options", &Settings::is_object),
                "{}: settings: expected an object with 'program' and 'options'", where);
  const auto made_by = json["program"].get<std::string>();
  ip2p::require(made_by == program, "{}: expected a picture that {} made, found one of {}", where, program, made_by);
  return json;
}

void add_like(CLI::App& app, std::string_view program, std::filesystem::path& like) {
  app.add_option_function<std::string>(
      "--like",
      [&app, program = std::string(program), &like](const std::string& path) {
        like = path;
        Settings settings;
        try {
          settings = parsed_settings(ip2p::read_settings(path).value_or(ip2p::PictureSettings{}), program, path);
        } catch (const ip2p::Error& error) {
          throw CLI::ValidationError("--like", error.what());
        }
        for (const auto& [name, value] : settings["options"].items()) take(app, name, value, path);
      },
      "use the settings of this picture, made by this program; options that are given take precedence, and --out and "
      "--image are never taken from it");
}

std::string difference(const Settings& before, const Settings& now) {
  if (before.value("photo", "") != now.value("photo", "")) return "of another photograph";
  const auto &then = before.at("options"), &given = now.at("options");
  for (const auto* side : {&given, &then}) {
    for (const auto& [name, value] : side->items()) {
      const auto text = [&name = name](const Settings& options) {
        return options.contains(name) ? fmt::format("--{} {}", name, typed(options[name]))
                                      : fmt::format("no --{}", name);
      };
      const bool same = then.contains(name) && given.contains(name) && then[name] == given[name];
      if (!same) return fmt::format("with {}, now {}", text(then), text(given));
    }
  }
  return {};
}

}  // namespace example
