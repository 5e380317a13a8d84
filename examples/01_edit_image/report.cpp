// What is said about a result: in its file, and on a sheet.

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "editing.hpp"
#include "ip2p/io/image.hpp"
#include "support/picture_settings.hpp"

namespace edit_image {

example::Settings Editing::settings(const Task& task) const {
  const auto complete = edit_.completed(base_);
  const auto rule = fit();
  auto options = example::model_settings(options_.model, model_);
  options["prompt"] = task.prompt;
  if (!run_.negative_prompt.empty()) options["negative-prompt"] = run_.negative_prompt;
  options["steps"] = *complete.steps;
  options["sampler"] = edit_.sampler.name();
  if (!run_.schedule.empty()) options["schedule"] = run_.schedule;
  options["text-scale"] = edit_.guidance.text_scale;
  options["image-scale"] = edit_.guidance.image_scale;
  options["seed"] = task.seed;
  options["noise"] = run_.noise;
  options["numerics"] = run_.numerics;
  if (rule.resolution) options["resolution"] = *rule.resolution;
  options["fit"] = ip2p::fit_names[static_cast<std::size_t>(task.photograph->fitted.fit)];
  const auto add_flag = [&](const char* name, bool given) {
    if (given) options[name] = true;
  };
  add_flag("full-size", options_.full_size);
  add_flag("keep-alpha", options_.keep_alpha);
  const auto& picture = options_.picture;
  const example::PictureOptions usual;
  if (picture.background != usual.background) options["background"] = picture.background;
  add_flag("ignore-exif", picture.ignore_exif);
  add_flag("ignore-profile", picture.ignore_profile);
  if (picture.max_megapixels != usual.max_megapixels) options["max-megapixels"] = picture.max_megapixels;
  if (run_.quality != example::RunOptions{}.quality) options["quality"] = run_.quality;
  if (!options_.latents.empty()) options["latents"] = options_.latents.filename().string();
  return options;
}

ip2p::PictureSettings Editing::settings_of(const Task& task) const {
  const auto& image = task.photograph->fitted.image;
  return example::picture_settings("edit_image", settings(task), task.photograph->sum, image.width, image.height);
}

ip2p::PictureSettings Editing::settings_of(const Task& task, const std::vector<std::string>& grid) const {
  auto options = settings(task);
  for (const auto& axis : axes_of(grid)) options.erase(axis.name);
  options["grid"] = grid;
  return {"", example::settings_json("edit_image", options, task.photograph->sum).dump()};  // front ends know no sheets
}

std::string Editing::describe_settings(const std::vector<Axis>& axes) const {
  const auto varies = [&](std::string_view name) {
    return std::any_of(axes.begin(), axes.end(), [&](const Axis& axis) { return axis.name == name; });
  };
  std::vector<std::string> parts;
  const auto add = [&](std::string_view name, std::string text) {
    if (!varies(name)) parts.push_back(std::move(text));
  };
  add("text-scale", fmt::format("text scale {:g}", edit_.guidance.text_scale));
  add("image-scale", fmt::format("image scale {:g}", edit_.guidance.image_scale));
  add("steps", fmt::format("{} steps", *edit_.completed(base_).steps));
  add("sampler", std::string(edit_.sampler.name()));
  add("seed", fmt::format("seed {}", run_.seed));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace edit_image
