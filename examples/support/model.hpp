#pragma once

/// \file
/// Converts model and run options to the library's types.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "advice.hpp"
#include "command_line.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "reporting.hpp"

namespace example {

/// The published program that --numerics names.
ip2p::Numerics numerics_of(const RunOptions& o);

/// How to open the model. \param numerics of the pipelines
ip2p::OpenOptions open_options(const ModelOptions& o, ip2p::Numerics numerics = ip2p::Numerics::released);

/// The prompt without the LoRAs that it names (`<lora:name:0.8>`), which are added to `o.loras`.
std::string take_loras(const std::string& prompt, ModelOptions& o);

/// The same of several prompts for one model. \throws Error unless all name the same LoRAs
std::vector<std::string> take_loras(const std::vector<std::string>& prompts, ModelOptions& o);

/// The files of a model, with the parts that take the place of its own. \throws Error if they cannot be opened
ip2p::ModelFiles model_files(const ModelOptions& o);

/// A digest of all that decides what a model is: its files and what is added to it.
std::string whole_digest(const ModelOptions& o);

/// Settings of a run that decide how exactly a model is computed; those that are as usual are left out.
nlohmann::json computing_settings(const ModelOptions& o);

/// Opens the model, prints what it holds and records it for --json.
ip2p::OpenedModel open_model(const ModelOptions& o, ip2p::Numerics numerics = ip2p::Numerics::released);

/// Prints how the model tokenises a prompt.
void report_prompt(const ip2p::OpenedModel& model, std::string_view name, const std::string& prompt);

/// Reports the prompt and the negative prompt, if any; warns of an instruction that the model does not know.
void report_prompts(const ip2p::OpenedModel& model, const std::string& prompt, const RunOptions& o);

/// The noise that --noise selects, for a batch of seeds.
struct NamedNoise {
  std::string name;
  ip2p::AnyNoise operator()(const std::vector<std::uint64_t>& seeds) const;
};

/// Noise for `pictures` pictures, with seeds SEED, SEED + 1, ...
ip2p::AnyNoise noise_of(const RunOptions& o, std::size_t pictures = 1);

/// \throws Error for a seed that the noise does not tell from smaller ones
void require_seed(const char* option, std::uint64_t seed, const std::string& noise);

/// The run's settings; options not given stay unset.
ip2p::RunSettings settings_of(const RunOptions& o, ip2p::RunHooks hooks = {});

/// Applies the command line's schedule, sampler and guidance to a pipeline, and warns of scales that the model was not
/// trained for.
template <class Pipeline>
void configure(Pipeline& pipeline, const RunOptions& o, const ip2p::OpenedModel& model) {
  if (!o.schedule.empty()) pipeline.diffusion.schedule = ip2p::AnySchedule::named(o.schedule, model.scheduler());
  if (o.sampler) pipeline.sampler = ip2p::AnySampler::named(*o.sampler);
  if (o.text_scale) pipeline.guidance.text_scale = *o.text_scale;
  if constexpr (requires { pipeline.guidance.image_scale; }) {
    if (o.image_scale) pipeline.guidance.image_scale = *o.image_scale;
  }
  if (!o.text_scale && !o.image_scale) return;
  std::optional<double> image_scale;
  if constexpr (requires { pipeline.guidance.image_scale; }) image_scale = pipeline.guidance.image_scale;
  warn(about_scales(advice_of(model), image_scale, pipeline.guidance.text_scale));
}

/// Describes a run's settings, and which of them come from the command line and which from the model; the rest are
/// the program's defaults. \param image_scale where the guidance has one  \param resolution of the run; unset where the
/// photograph decides
std::string describe_run(const RunOptions& o, const ip2p::ModelSettings& recommended, std::int64_t steps,
                         std::string_view sampler, std::string_view schedule, std::optional<double> image_scale,
                         double text_scale, std::optional<std::int64_t> resolution);

/// The same of a pipeline.
template <class Pipeline>
std::string describe_run(const Pipeline& pipeline, const RunOptions& o, const ip2p::OpenedModel& model,
                         std::optional<std::int64_t> resolution) {
  std::optional<double> image_scale;
  if constexpr (requires { pipeline.guidance.image_scale; }) image_scale = pipeline.guidance.image_scale;
  return describe_run(o, model.settings(), o.steps.value_or(pipeline.defaults.steps), pipeline.sampler.name(),
                      pipeline.diffusion.schedule.name(), image_scale, pipeline.guidance.text_scale, resolution);
}

/// Records the settings in effect for --json. \param settings of the run, complete
template <class Pipeline>
void record_run(const Pipeline& pipeline, const RunOptions& o, const ip2p::RunSettings& settings) {
  auto& of = result();
  of.setting("negative-prompt", o.negative_prompt);
  of.setting("steps", settings.steps);
  of.setting("sampler", std::string(pipeline.sampler.name()));
  of.setting("schedule", std::string(pipeline.diffusion.schedule.name()));
  if constexpr (requires { pipeline.guidance.image_scale; }) {
    of.setting("image-scale", pipeline.guidance.image_scale);
  }
  of.setting("text-scale", pipeline.guidance.text_scale);
  of.setting("resolution", settings.resolution);
  of.setting("seed", o.seed);
  of.setting("noise", o.noise);
  of.setting("numerics", o.numerics);
}

/// Longer side at which a photograph is processed; unset to keep the photograph's own.
template <class Pipeline>
std::optional<std::int64_t> resolution_of(const Pipeline& pipeline, const RunOptions& o) {
  const auto resolution = o.resolution ? o.resolution : pipeline.defaults.resolution;
  if (!resolution && pipeline.defaults.numerics == ip2p::Numerics::released) return 512;
  return resolution;
}

}  // namespace example
