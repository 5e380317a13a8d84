#include "options.hpp"

#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace edit_image {
namespace {

/// Throws `CLI::ValidationError` for arguments that are valid alone but conflict.
void check_together(const Options& o, bool compare_given) {
  const auto wrong = [](const std::string& option, const std::string& why) { throw CLI::ValidationError(option, why); };
  struct Named {
    const char* option;
    const std::filesystem::path* path;
  };
  const Named outputs[] = {{"--out", &o.run.out}, {"--compare", &o.compare}, {"--save-latents", &o.save_latents}};
  const Named inputs[] = {{"--image", &o.image}, {"--latents", &o.latents}};
  for (const auto& output : outputs) {
    for (const auto& input : inputs) {
      if (example::same_file(*output.path, *input.path)) {
        wrong(output.option, fmt::format("would overwrite the input of {}, '{}'", input.option, input.path->string()));
      }
    }
    for (const auto& other : outputs) {
      if (output.path < other.path && example::same_file(*output.path, *other.path)) {
        wrong(output.option, fmt::format("and {} name the same file, '{}'", other.option, output.path->string()));
      }
    }
  }
  if (compare_given) {
    if (const auto problem = example::picture_name(o.compare.string()); !problem.empty()) wrong("--compare", problem);
  }
  // Every branch without the instruction has weight 0 exactly when both scales are 1.
  if (!o.run.negative_prompt.empty() && o.run.text_scale == 1 && o.run.image_scale == 1) {
    wrong("--negative-prompt", "has no effect with --text-scale 1 and --image-scale 1, which switch guidance off");
  }
}

}  // namespace

void add_options(CLI::App& app, Options& o) {
  app.add_option("--image", o.image, "photograph to edit")->type_name("FILE")->required();
  app.add_option("--prompt", o.prompt,
                 "instruction; \"\" returns the resized photograph unedited (not with --numerics diffusers)")
      ->required();
  example::add_run(app, o.run, "the model's, or 100", "the model's, or 7.5", "the model's, or euler-ancestral");
  example::add_image_scale(app, o.run.image_scale, "how closely to follow the photograph; 1 to 1.5 works well");
  example::add_resolution(app, o.run.resolution);
  example::add_full_size(app, o.full_size);
  auto* compare =
      app.add_option("--compare", o.compare,
                     "also write the photograph and the result side by side (default name: OUT with -compare)");
  compare->expected(0, 1)->type_name("FILE");
  app.add_option("--latents", o.latents,
                 "start noise of unit variance: a safetensors file with a tensor `latents` [1,4,h,w], or a file "
                 "from --save-latents, which holds it as `start_noise`")
      ->type_name("FILE");
  app.add_option("--save-latents", o.save_latents,
                 "safetensors file to write: the result as `latents`, and `start_noise`")
      ->type_name("FILE");
  app.add_flag("--keep-alpha", o.keep_alpha,
               "give the result the photograph's alpha (.png, .webp); without it, the result is opaque");
  example::add_picture(app, o.picture);
  example::add_model(app, o.model);
  example::add_prompt_marks(app, o.model);
  app.callback([&o, compare] {
    if (compare->count() > 0 && o.compare.empty()) {
      o.compare = o.run.out.parent_path() / (o.run.out.stem().string() + "-compare" + o.run.out.extension().string());
    }
    check_together(o, compare->count() > 0);
  });
}

}  // namespace edit_image
