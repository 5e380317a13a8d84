#include "edit_settings.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace example {

Settings edit_settings(const EditMade& made, const std::string& prompt, std::uint64_t seed) {
  const auto& run = made.run;
  auto options = model_settings(made.model_options, made.model);
  options["prompt"] = prompt;
  if (!run.negative_prompt.empty()) options["negative-prompt"] = run.negative_prompt;
  options["steps"] = run.steps.value_or(made.edit.defaults.steps);
  options["sampler"] = made.edit.sampler.name();
  if (!run.schedule.empty()) options["schedule"] = run.schedule;
  options["text-scale"] = made.edit.guidance.text_scale;
  options["image-scale"] = made.edit.guidance.image_scale;
  options["seed"] = seed;
  options["noise"] = run.noise;
  options["numerics"] = run.numerics;
  if (made.resolution) options["resolution"] = *made.resolution;
  options["fit"] = ip2p::fit_names[static_cast<std::size_t>(made.fit)];
  const auto add_flag = [&](const char* name, bool given) {
    if (given) options[name] = true;
  };
  add_flag("full-size", made.full_size);
  add_flag("keep-alpha", made.keep_alpha);
  const auto& picture = made.picture;
  const PictureOptions usual;
  if (picture.background != usual.background) options["background"] = picture.background;
  add_flag("ignore-exif", picture.ignore_exif);
  add_flag("ignore-profile", picture.ignore_profile);
  if (picture.max_megapixels != usual.max_megapixels) options["max-megapixels"] = picture.max_megapixels;
  if (run.quality != RunOptions{}.quality) options["quality"] = run.quality;
  return options;
}

}  // namespace example
