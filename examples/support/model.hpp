#pragma once

/// \file
/// Converts model and run options to the library's types.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "command_line.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/freed_memory.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "program.hpp"

namespace example {

/// Parses "FILE" or "FILE:SCALE".
inline ip2p::LoraChoice lora_choice(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos || !finite_number(text.substr(colon + 1)).empty()) return {text};
  return {text.substr(0, colon), std::stod(text.substr(colon + 1))};
}

/// How to open the model. \param numerics of the pipelines
inline ip2p::OpenOptions open_options(const ModelOptions& o, ip2p::Numerics numerics = ip2p::Numerics::released) {
  const auto device = ip2p::parse_device(o.device);
  ip2p::OpenOptions options{.device = device,
                            .dtype = ip2p::parse_dtype(o.dtype, device),
                            .low_memory = o.low_memory,
                            .numerics = numerics,
                            .prefer_ema = !o.no_ema,
                            .variant = o.variant,
                            .tokenizer = o.tokenizer,
                            .vae = o.vae,
                            .prediction_type = o.prediction_type,
                            .partial_loras = o.partial_loras};
  for (const auto& text : o.loras) options.loras.push_back(lora_choice(text));
  options.embeddings.assign(o.embeddings.begin(), o.embeddings.end());
  options.warn = [](const std::string& text) { fmt::print(stderr, "warning: {}\n", text); };
  return options;
}

/// Opens the model and prints what it holds.
inline ip2p::OpenedModel open_model(const ModelOptions& o, ip2p::Numerics numerics = ip2p::Numerics::released) {
  if (o.threads > 0) at::set_num_threads(o.threads);
  ip2p::set_freed_memory(o.low_memory ? ip2p::FreedMemory::returned : ip2p::FreedMemory::kept);
  auto model = ip2p::OpenedModel::open(o.model, open_options(o, numerics));
  const auto dtype = *model.options().dtype;
  fmt::print("model: {}\ncomputes in {} on {}\n", model.describe(),
             dtype == at::kFloat  ? "fp32"
             : dtype == at::kHalf ? "fp16"
                                  : "bf16",
             model.options().device->str());
  return model;
}

/// Prints how the model tokenises a prompt.
inline void report_prompt(const ip2p::OpenedModel& model, std::string_view name, const std::string& prompt) {
  const auto length = model.length(prompt);
  report_prompt(name, length.tokens, length.limit, length.dropped);
}

/// Reports the prompt and the negative prompt, if any.
inline void report_prompts(const ip2p::OpenedModel& model, const std::string& prompt, const RunOptions& o) {
  report_prompt(model, "prompt", prompt);
  if (!o.negative_prompt.empty()) report_prompt(model, "negative prompt", o.negative_prompt);
}

/// The noise that --noise selects, for a batch of seeds.
struct NamedNoise {
  std::string name;
  ip2p::AnyNoise operator()(const std::vector<std::uint64_t>& seeds) const {
    return ip2p::AnyNoise::named(name, seeds);
  }
};

/// Noise for `pictures` pictures, with seeds SEED, SEED + 1, ...
inline ip2p::AnyNoise noise_of(const RunOptions& o, std::size_t pictures = 1) {
  return NamedNoise{o.noise}(ip2p::seeds_for(pictures, o.seed, {}));
}

/// The run's settings; options not given stay unset.
inline ip2p::RunSettings settings_of(const RunOptions& o, ip2p::RunHooks hooks = {}) {
  return {.steps = o.steps,
          .seed = o.seed,
          .negative_prompt = o.negative_prompt,
          .resolution = o.resolution,
          .hooks = std::move(hooks)};
}

/// Applies the command line's schedule, sampler and guidance to a pipeline.
template <class Pipeline>
void configure(Pipeline& pipeline, const RunOptions& o, const ip2p::OpenedModel& model) {
  if (!o.schedule.empty()) pipeline.diffusion.schedule = ip2p::AnySchedule::named(o.schedule, model.scheduler());
  if (o.sampler) pipeline.sampler = ip2p::AnySampler::named(*o.sampler);
  if (o.text_scale) pipeline.guidance.text_scale = *o.text_scale;
  if constexpr (requires { pipeline.guidance.image_scale; }) {
    if (o.image_scale) pipeline.guidance.image_scale = *o.image_scale;
  }
}

/// Describes a run's settings, and which of them come from the command line and which from the model; the rest are
/// the program's defaults. \param resolution of the run; unset where the photograph decides
template <class Pipeline>
std::string describe_run(const Pipeline& pipeline, const RunOptions& o, const ip2p::OpenedModel& model,
                         std::optional<std::int64_t> resolution) {
  const auto& recommends = model.settings();
  std::vector<std::string> given, recommended;
  std::size_t all = 0;
  const auto note = [&](const char* name, bool is_given, bool is_recommended) {
    ++all;
    if (is_given) given.emplace_back(name);
    if (!is_given && is_recommended) recommended.emplace_back(name);
  };
  note("steps", o.steps.has_value(), recommends.steps.has_value());
  note("sampler", o.sampler.has_value(), recommends.sampler.has_value());
  auto text = fmt::format("{} steps of {} over {} noise levels;", o.steps.value_or(pipeline.defaults.steps),
                          pipeline.sampler.name(), pipeline.diffusion.schedule.name());
  if constexpr (requires { pipeline.guidance.image_scale; }) {
    note("image scale", o.image_scale.has_value(), recommends.image_scale.has_value());
    text += fmt::format(" image scale {:g},", pipeline.guidance.image_scale);
  }
  note("text scale", o.text_scale.has_value(), recommends.text_scale.has_value());
  text += fmt::format(" text scale {:g}", pipeline.guidance.text_scale);
  if (resolution) {
    note("resolution", o.resolution.has_value(), recommends.resolution.has_value());
    text += fmt::format(", resolution {}", *resolution);
  }
  std::vector<std::string> origins;
  const auto add = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    origins.push_back(names.size() == all ? what : fmt::format("{}: {}", what, fmt::join(names, ", ")));
  };
  add("given", given);
  add("recommended by the model", recommended);
  if (!origins.empty()) text += fmt::format(" ({})", fmt::join(origins, "; "));
  return text;
}

/// Longer side at which a photograph is processed; unset to keep the photograph's own.
template <class Pipeline>
std::optional<std::int64_t> resolution_of(const Pipeline& pipeline, const RunOptions& o) {
  const auto resolution = o.resolution ? o.resolution : pipeline.defaults.resolution;
  if (!resolution && pipeline.defaults.numerics == ip2p::Numerics::released) return 512;
  return resolution;
}

}  // namespace example
