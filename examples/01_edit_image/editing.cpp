#include "editing.hpp"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ip2p/io/image.hpp"
#include "ip2p/io/safetensors.hpp"
#include "support/advice.hpp"
#include "support/contents.hpp"
#include "support/fit.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/watched_edit.hpp"

namespace edit_image {
namespace {

using ip2p::require;

/// Reads the start noise of --latents.
at::Tensor read_latents(const std::filesystem::path& path) {
  const auto file = ip2p::SafetensorsFile::open(path);
  const auto names = file.names();
  const auto holds = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  require(holds("start_noise") || holds("latents"), "{}: expected a tensor 'latents', found {}", path.string(),
          fmt::join(names, ", "));
  const auto stored = file.tensor(holds("start_noise") ? "start_noise" : "latents");
  require(stored.is_floating_point() && stored.dim() == 4,
          "{}: latents: expected floating-point numbers [1,4,h,w], found {} {}", path.string(),
          at::toString(stored.scalar_type()), ip2p::shape_text(stored.sizes()));
  auto latents = stored.to(at::kFloat);
  require(at::isfinite(latents).all().item<bool>(), "{}: latents: expected finite numbers, found NaN or infinity",
          path.string());
  const double deviation = latents.numel() > 1 ? latents.std().item<double>() : 1.0;
  require(deviation > 0.5 && deviation < 2,
          "{}: latents: expected noise of unit variance (before it is scaled by sigma), found a standard deviation of "
          "{:.3g}",
          path.string(), deviation);
  return latents;
}

/// The options with the LoRAs that prompts name. \param words gets the prompts without their names
Options with_named_loras(Options o, std::map<std::string, std::string>& words) {
  const auto without = example::take_loras(o.prompts, o.model);
  for (std::size_t i = 0; i < without.size(); ++i) words[o.prompts[i]] = without[i];
  return o;
}

/// Network evaluations per step; branches of zero weight are skipped.
std::string describe_evaluations(const ip2p::DualGuidance& guidance) {
  int evaluations = 0;
  for (const double weight : guidance.weights({})) evaluations += weight != 0;
  return fmt::format("{} evaluation{} per step{}", evaluations, evaluations == 1 ? "" : "s",
                     evaluations == 1 ? " (both scales are 1: guidance is off)" : "");
}

}  // namespace

Editing::Editing(const Options& options, const example::Interrupt& interrupt)
    : options_(options),
      run_(options.run),
      interrupt_(interrupt),
      model_([&] {
        auto latents = options.latents.empty() ? at::Tensor() : read_latents(options.latents);
        base_ = example::settings_of(options.run);
        base_.latents = std::move(latents);
        const auto begin = example::Clock::now();
        auto model = example::open_model(with_named_loras(options, words_).model, example::numerics_of(options.run));
        load_seconds_ = example::seconds_since(begin);
        return model;
      }()),
      opened_([&] {
        const auto begin = example::Clock::now();
        auto editor = model_.editor();
        load_seconds_ += example::seconds_since(begin);
        return editor;
      }()),
      edit_(opened_) {
  configure(options.run);
  resolution_ = example::resolution_of(edit_, options.run);
}

void Editing::configure(const example::RunOptions& run) {
  run_ = run;
  edit_ = opened_;
  example::configure(edit_, run, model_);
  base_.steps = run.steps;
  base_.seed = run.seed;
}

void Editing::report() const {
  for (const auto& prompt : options_.prompts) {
    example::report_prompt(model_, "prompt", words_.at(prompt));
    example::warn(example::about_instruction(example::advice_of(model_), words_.at(prompt)));
  }
  if (!run_.negative_prompt.empty()) example::report_prompt(model_, "negative prompt", run_.negative_prompt);
  fmt::print("{}; {}\n", example::describe_run(edit_, run_, model_, fit().resolution),
             describe_evaluations(edit_.guidance));
  std::fflush(stdout);
}

ip2p::FitRule Editing::fit() const {
  return example::fit_rule(options_.fit, resolution_, *edit_.completed(base_).numerics);
}

Photograph Editing::read(const std::filesystem::path& path) const {
  return read(path, example::read_photo(path, options_.picture));
}

Photograph Editing::read(const std::filesystem::path& path, ip2p::Picture picture) const {
  auto fitted = ip2p::fit_photo(picture.image, fit());
  std::error_code ignored;  // a pipe cannot be read twice
  auto sum = std::filesystem::is_regular_file(path, ignored) ? example::sum_of_file(path) : std::string();
  return {path, std::move(sum), std::move(picture), std::move(fitted)};
}

Edited Editing::edit(const std::vector<Task>& tasks) {
  const auto begin = example::Clock::now();
  const auto& fitted = tasks.front().photograph->fitted;
  auto settings = example::take_fitted(edit_, base_, fitted);
  // Each photograph is encoded once, however many edits are made of it.
  const bool one_photograph = std::all_of(
      tasks.begin(), tasks.end(), [&](const Task& task) { return task.photograph == tasks.front().photograph; });
  std::vector<ip2p::Image> photos;
  std::vector<std::string> prompts;
  std::vector<std::uint64_t> seeds;
  for (const auto& task : tasks) {
    if (photos.empty() || !one_photograph) photos.push_back(task.photograph->fitted.image);
    prompts.push_back(words_.at(task.prompt));
    seeds.push_back(task.seed);
  }
  Edited edited;
  {
    example::ProgressBar bar(stderr);
    settings.hooks = example::watched(bar, interrupt_);
    auto noise = example::NamedNoise{run_.noise}(seeds);
    auto result = run_pipeline(tasks, photos, prompts, settings, noise);
    edited.pictures = std::move(result.images);
    edited.latents = std::move(result.latents);
  }
  if (!options_.save_latents.empty()) {
    auto noise = example::NamedNoise{run_.noise}(seeds);
    edited.start_noise = edit_.start_noise(settings, edited.latents.sizes(), noise);
  }
  if (options_.full_size && one_photograph) {  // whose round trip is then made once
    const auto& photograph = *tasks.front().photograph;
    edited.pictures = ip2p::at_full_size(edit_, photograph.picture.image, photograph.fitted, edited.pictures, settings);
  } else {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const auto& photograph = *tasks[i].photograph;
      auto& picture = edited.pictures[i];
      picture =
          options_.full_size
              ? ip2p::at_full_size(edit_, photograph.picture.image, photograph.fitted, {&picture, 1}, settings).front()
              : ip2p::own_part(photograph.fitted, picture);
    }
  }
  edit_seconds_ += example::seconds_since(begin);
  if (interrupt_.token().stop_requested()) throw ip2p::Cancelled("cancelled before the picture was written");
  return edited;
}

ip2p::PipelineResult Editing::run_pipeline(const std::vector<Task>& tasks, std::span<const ip2p::Image> photos,
                                           const std::vector<std::string>& prompts, const ip2p::RunSettings& settings,
                                           ip2p::AnyNoise& noise) const {
  // The empty instruction may have no steps to show.
  const bool edits = std::none_of(prompts.begin(), prompts.end(), [](const auto& prompt) { return prompt.empty(); });
  if (options_.preview == 0 || !edits) return edit_.run(photos, prompts, settings, noise);
  const auto show = [&](std::size_t i, const ip2p::Image& picture) {
    const auto small = ip2p::own_part(tasks[i].photograph->fitted, picture);
    ip2p::write_image(tasks[i].preview, small, run_.quality);
  };
  const auto options = edit_.completed(settings);
  const auto pictures = edit_.prepare(photos, options);
  const auto image_latents = edit_.encode_images(pictures);
  auto shape = image_latents.sizes().vec();
  shape.front() = static_cast<std::int64_t>(prompts.size());
  const auto start = edit_.start_noise(options, shape, noise);
  ip2p::PipelineResult result;
  result.latents =
      example::run_watched(edit_, pictures, image_latents, edit_.encode_text(prompts, options.negative_prompt), start,
                           options, noise, {.preview_every = options_.preview, .show = show});
  result.images = edit_.decode(result.latents, ip2p::rounding_of(*options.numerics));
  return result;
}

ip2p::Image Editing::before(const Photograph& photograph) const {
  return options_.full_size ? photograph.picture.image : ip2p::own_part(photograph.fitted, photograph.fitted.image);
}

}  // namespace edit_image
