// What is written about a result: in its file, and on a sheet.

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
#include "support/edit_settings.hpp"
#include "support/picture_settings.hpp"

namespace edit_image {

example::Settings Editing::settings(const Task& task) const {
  auto options = example::edit_settings({.model_options = options_.model,
                                         .model = model_,
                                         .edit = edit_,
                                         .run = run_,
                                         .picture = options_.picture,
                                         .resolution = fit().resolution,
                                         .fit = task.photograph->fitted.fit,
                                         .full_size = options_.full_size,
                                         .keep_alpha = options_.keep_alpha},
                                        task.prompt, task.seed);
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
