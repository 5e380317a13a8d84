#include "model.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "contents.hpp"
#include "hub.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/freed_memory.hpp"
#include "ip2p/execution/any_execution.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/text/prompt_syntax.hpp"
#include "program.hpp"
#include "reporting.hpp"
#include "use_threads.hpp"

#ifdef IP2P_HAS_CUDA
#include "ip2p/execution/cuda_graph.hpp"
#include "ip2p/execution/graphed.hpp"
#endif

namespace example {

/// Parses "FILE" or "FILE:SCALE".
static ip2p::LoraChoice lora_choice(const std::string& text) {
  const auto colon = text.rfind(':');
  std::error_code ignored;
  if (colon == text.npos || std::filesystem::exists(text, ignored)) return {text};
  if (const auto problem = finite_number(text.substr(colon + 1)); !problem.empty()) {
    ip2p::require(!std::filesystem::exists(text.substr(0, colon), ignored), "--lora: scale of '{}': {}",
                  text.substr(0, colon), problem);
    return {text};
  }
  return {text.substr(0, colon), std::stod(text.substr(colon + 1))};
}

std::string take_loras(const std::string& prompt, ModelOptions& o) {
  if (!o.prompt_marks || prompt.find("<lora:") == prompt.npos) return prompt;
  const auto [words, loras] = ip2p::without_loras(prompt);
  for (const auto& lora : loras) {
    std::filesystem::path found;
    std::error_code ignored;
    for (const char* extension : {".safetensors", ""}) {
      const auto path = o.lora_folder / (lora.name + extension);
      if (found.empty() && std::filesystem::is_regular_file(path, ignored)) found = path;
    }
    ip2p::require(!found.empty(), "prompt: <lora:{}>: expected '{}', found none; name its folder with --lora-folder",
                  lora.name, (o.lora_folder / (lora.name + ".safetensors")).string());
    o.loras.push_back(fmt::format("{}:{}", found.string(), lora.scale));
  }
  return words;
}

std::vector<std::string> take_loras(const std::vector<std::string>& prompts, ModelOptions& o) {
  const auto given = o;
  std::vector<std::string> words;
  for (const auto& prompt : prompts) {
    auto model = given;
    words.push_back(take_loras(prompt, model));
    ip2p::require(
        words.size() == 1 || model.loras == o.loras,
        "--prompt: expected prompts that name the same LoRAs, because the model is loaded once, found '{}' and '{}'",
        prompts.front(), prompt);
    o = std::move(model);
  }
  return words;
}

/// How the network's evaluations are carried out: recorded where --graph asks for it.
static ip2p::AnyExecution execution_of(const ModelOptions& o, at::Device device) {
  if (!o.graph) return {};
#ifdef IP2P_HAS_CUDA
  ip2p::require(device.is_cuda(), "--graph: expected a CUDA device, whose work can be recorded, found {}",
                device.str());
  return ip2p::Graphed<ip2p::CudaGraph>({.tell = [](const std::string& text) { note(text); }});
#else
  ip2p::throw_error(
      "--graph: expected a CUDA device and a program that was built for CUDA (cmake -DIP2P_CUDA=ON), found {} and one "
      "that was not",
      device.str());
#endif
}

ip2p::Numerics numerics_of(const RunOptions& o) {
  return o.numerics == "released" ? ip2p::Numerics::released : ip2p::Numerics::diffusers;
}

ip2p::OpenOptions open_options(const ModelOptions& o, ip2p::Numerics numerics) {
  const auto device = ip2p::parse_device(o.device);
  ip2p::OpenOptions options{.device = device,
                            .low_memory = o.low_memory,
                            .numerics = numerics,
                            .prefer_ema = !o.no_ema,
                            .variant = o.variant,
                            .tokenizer = o.tokenizer,
                            .vae = o.vae,
                            .base = o.base,
                            .prediction_type = o.prediction_type,
                            .partial_loras = o.partial_loras};
  if (o.dtype != "auto") options.dtype = ip2p::parse_dtype(o.dtype, device);
  for (const auto& text : o.loras) options.loras.push_back(lora_choice(text));
  options.embeddings.assign(o.embeddings.begin(), o.embeddings.end());
  options.deep_cache = o.deep_cache;
  options.prompt_marks = o.prompt_marks;
  options.fp8 = o.fp8;
  options.int8 = o.int8;
  options.direct_convolutions = o.direct_convolution;
  options.execution = execution_of(o, device);
  options.warn = [](const std::string& text) { fmt::print(stderr, "warning: {}\n", text); };
  return options;
}

static const char* dtype_name(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kHalf ? "fp16" : "bf16";
}

/// Records what --json prints of the model: where it is, and how it computes.
static void record_model(const ip2p::OpenedModel& model, const ModelOptions& o) {
  result().setting("model", o.model.string());
  for (const auto& [name, list] : {std::pair{"lora", &o.loras}, std::pair{"embedding", &o.embeddings}}) {
    result().setting(name, *list);
  }
  result().setting("vae", o.vae.string());
  result().setting("device", model.options().device->str());
  result().setting("dtype", dtype_name(*model.options().dtype));
}

ip2p::ModelFiles model_files(const ModelOptions& o) {
  const auto place = located(o);
  return ip2p::ModelFiles::open(place.model, {.prefer_ema = !o.no_ema,
                                              .variant = o.variant,
                                              .tokenizer = place.tokenizer,
                                              .vae = place.vae,
                                              .prediction_type = o.prediction_type,
                                              .base = place.base});
}

std::string whole_digest(const ModelOptions& o) {
  auto digest = model_digest(model_files(o));
  for (const auto* files : {&o.loras, &o.embeddings}) {
    for (const auto& file : *files) digest += "+" + addition_digest(file);
  }
  return digest;
}

nlohmann::json computing_settings(const ModelOptions& o) {
  nlohmann::json settings = nlohmann::json::object();
  if (o.deep_cache != 1) settings["--deep-cache"] = o.deep_cache;
  for (const auto& [name, given] :
       {std::pair{"--low-memory", o.low_memory}, std::pair{"--tf32", o.tf32}, std::pair{"--fp8", o.fp8},
        std::pair{"--int8", o.int8}, std::pair{"--direct-convolution", o.direct_convolution},
        std::pair{"--lora-partial", o.partial_loras}}) {
    if (given) settings[name] = true;
  }
  return settings;
}

ip2p::OpenedModel open_model(const ModelOptions& given, ip2p::Numerics numerics) {
  const auto o = located(given);
  use_threads(o.threads);
  if (o.tf32) ip2p::allow_tf32(true);
  ip2p::set_freed_memory(o.low_memory ? ip2p::FreedMemory::returned : ip2p::FreedMemory::kept);
  auto model = ip2p::OpenedModel::open(o.model, open_options(o, numerics));
  fmt::print("model: {}\ncomputes in {} on {}\n", model.describe(), dtype_name(*model.options().dtype),
             model.options().device->str());
  record_model(model, given);
  if (o.int8 && !ip2p::int8_is_faster()) {
    note("--int8 saves memory but will not be faster: this CPU has no VNNI");
  }
  return model;
}

void report_prompt(const ip2p::OpenedModel& model, std::string_view name, const std::string& prompt) {
  const auto length = model.length(prompt);
  report_prompt(name, length.tokens, length.limit, length.dropped);
}

void report_prompts(const ip2p::OpenedModel& model, const std::string& prompt, const RunOptions& o) {
  report_prompt(model, "prompt", prompt);
  if (!o.negative_prompt.empty()) report_prompt(model, "negative prompt", o.negative_prompt);
  warn(about_instruction(advice_of(model), prompt));
}

ip2p::AnyNoise NamedNoise::operator()(const std::vector<std::uint64_t>& seeds) const {
  return ip2p::AnyNoise::named(name, seeds);
}

ip2p::AnyNoise noise_of(const RunOptions& o, std::size_t pictures) {
  return NamedNoise{o.noise}(ip2p::seeds_for(pictures, o.seed, {}));
}

void require_seed(const char* option, std::uint64_t seed, const std::string& noise) {
  ip2p::require(
      noise != "torch" || seed <= 0xffffffffU,
      "{}: expected at most 4294967295 with --noise torch, because torch's generator uses the lower 32 bits alone, "
      "found {}, which would be the same as {}; --noise counter and cuda tell such seeds apart",
      option, seed, seed & 0xffffffffU);
}

ip2p::RunSettings settings_of(const RunOptions& o, ip2p::RunHooks hooks) {
  require_seed("--seed", o.seed, o.noise);
  return {.steps = o.steps,
          .seed = o.seed,
          .negative_prompt = o.negative_prompt,
          .resolution = o.resolution,
          .hooks = std::move(hooks)};
}

std::string describe_run(const RunOptions& o, const ip2p::ModelSettings& recommended, std::int64_t steps,
                         std::string_view sampler, std::string_view schedule, std::optional<double> image_scale,
                         double text_scale, std::optional<std::int64_t> resolution) {
  std::vector<std::string> given, from_model;
  std::size_t all = 0;
  const auto note = [&](const char* name, bool is_given, bool is_recommended) {
    ++all;
    if (is_given) given.emplace_back(name);
    if (!is_given && is_recommended) from_model.emplace_back(name);
  };
  note("steps", o.steps.has_value(), recommended.steps.has_value());
  note("sampler", o.sampler.has_value(), recommended.sampler.has_value());
  auto text = fmt::format("{} steps of {} over {} noise levels;", steps, sampler, schedule);
  if (image_scale) {
    note("image scale", o.image_scale.has_value(), recommended.image_scale.has_value());
    text += fmt::format(" image scale {:g},", *image_scale);
  }
  note("text scale", o.text_scale.has_value(), recommended.text_scale.has_value());
  text += fmt::format(" text scale {:g}", text_scale);
  if (resolution) {
    note("resolution", o.resolution.has_value(), recommended.resolution.has_value());
    text += fmt::format(", resolution {}", *resolution);
  }
  std::vector<std::string> origins;
  const auto add = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    origins.push_back(names.size() == all ? what : fmt::format("{}: {}", what, fmt::join(names, ", ")));
  };
  add("given", given);
  add("recommended by the model", from_model);
  if (!origins.empty()) text += fmt::format(" ({})", fmt::join(origins, "; "));
  return text;
}

}  // namespace example
