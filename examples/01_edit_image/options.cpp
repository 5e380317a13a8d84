#include "options.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "grid.hpp"
#include "jobs.hpp"
#include "support/fit.hpp"
#include "support/picture_settings.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"

namespace edit_image {
namespace {

[[noreturn]] void wrong(const std::string& option, const std::string& why) { throw CLI::ValidationError(option, why); }

/// The same for options that cannot go together with several results.
void check_several(const Options& o) {
  const bool several = o.images.size() > 1 || o.prompts.size() > 1 || o.count > 1;
  if (!o.grid.empty() && several) {
    wrong("--grid", "expected one --image and one --prompt, and seeds as the axis seed=1,2,3");
  }
  if (several && o.to_standard_output()) wrong("--out", "- (standard output) takes one result");
  if (several && names_one(o.out)) {
    wrong("--out",
          fmt::format("expected a folder or a pattern such as 'out/{{name}}-{{seed}}.png' for several results, "
                      "found '{}'",
                      o.out));
  }
  const bool single = names_one(o.out) || o.to_standard_output();
  const auto only_single = [&](const char* option, bool given) {
    if (given && !single) wrong(option, "expected --out to name one picture, because this names one file");
    if (given && !o.grid.empty()) wrong(option, "cannot be combined with --grid");
  };
  only_single("--latents", !o.latents.empty());
  only_single("--save-latents", !o.save_latents.empty());
  only_single("--compare", !o.compare.empty());
  if (o.comparing && !o.grid.empty()) wrong("--compare", "cannot be combined with --grid");
  if (o.preview > 0 && !o.grid.empty()) wrong("--preview", "cannot be combined with --grid");
  if (o.to_standard_output() && o.comparing && o.compare.empty()) wrong("--compare", "needs a name with --out -");
  if (o.to_standard_output() && o.preview > 0) wrong("--preview", "needs a name for --out, beside which it is written");
}

/// Throws `CLI::ValidationError` for arguments that are valid alone but conflict.
void check_together(const Options& o) {
  check_several(o);
  if (o.to_standard_output() && example::json()) wrong("--json", "cannot be combined with --out -");
  struct Named {
    const char* option;
    std::filesystem::path path;
  };
  const std::filesystem::path one = names_one(o.out) ? o.out : "";
  const std::vector<Named> outputs{{"--out", one}, {"--compare", o.compare}, {"--save-latents", o.save_latents}};
  std::vector<Named> inputs{{"--latents", o.latents}};
  for (const auto& image : o.images) inputs.push_back({"--image", image});
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    for (const auto& input : inputs) {
      if (example::same_file(outputs[i].path, input.path)) {
        wrong(outputs[i].option,
              fmt::format("would overwrite the input of {}, '{}'", input.option, input.path.string()));
      }
    }
    for (std::size_t k = i + 1; k < outputs.size(); ++k) {
      if (example::same_file(outputs[i].path, outputs[k].path)) {
        wrong(outputs[i].option,
              fmt::format("and {} name the same file, '{}'", outputs[k].option, outputs[i].path.string()));
      }
    }
  }
  if (!o.compare.empty()) {
    if (const auto problem = example::picture_name(o.compare.string()); !problem.empty()) wrong("--compare", problem);
  }
  // Every branch without the instruction has weight 0 exactly when both scales are 1.
  if (!o.run.negative_prompt.empty() && o.run.text_scale == 1 && o.run.image_scale == 1) {
    wrong("--negative-prompt", "has no effect with --text-scale 1 and --image-scale 1, which switch guidance off");
  }
}

/// Empty for what --out may be, otherwise the error message.
std::string result_name(const std::string& text) {
  if (text.empty()) return "expected the name of a picture, a folder or a pattern, found nothing";
  const bool pattern = text.find('{') != text.npos;
  if (pattern) {
    if (auto problem = pattern_problem(text); !problem.empty()) return problem;
  } else if (text == "-" || !names_one(text)) {
    return {};
  }
  return example::picture_name(text);
}

}  // namespace

bool names_one(const std::string& out) {
  if (out.empty() || out == "-" || out.ends_with('/') || out.find('{') != out.npos) return false;
  std::error_code ignored;
  return std::filesystem::path(out).has_extension() && !std::filesystem::is_directory(out, ignored);
}

void add_options(CLI::App& app, Options& o) {
  app.footer(
      "One result is written whole or not at all; of several, those that were made are kept, and the same command "
      "makes the rest.");
  app.add_option("--image", o.images,
                 "photographs to edit: files, folders, patterns such as 'photos/*.jpg', or lists (.txt files with one "
                 "name per line)")
      ->type_name("PATH")
      ->required();
  app.add_option("--prompt", o.prompts,
                 "instruction; \"\" returns the resized photograph unedited (not with --numerics diffusers); may be "
                 "repeated, for several edits of each photograph")
      ->required()
      ->allow_extra_args(false);  // else CLI11 takes a text in brackets for a list
  app.add_option("--out", o.out,
                 "picture to write (.png, .jpg, .webp), - for PNG on standard output, a folder, or a pattern of "
                 "{name} (the photograph's), {prompt}, {seed} and {number}, such as 'out/{name}-{seed}.png'")
      ->type_name("PATH")
      ->required()
      ->check(result_name);
  example::add_run(app, o.run, "the model's, or 100", "the model's, or 7.5", "the model's, or euler-ancestral");
  app.add_option("--count", o.count, "results for each photograph and instruction, with seeds SEED, SEED + 1, ...")
      ->capture_default_str()
      ->check(example::range(1, 100000));
  app.add_option("--batch", o.batch,
                 "results to compute together if their sizes are equal; each still gets its own noise")
      ->capture_default_str()
      ->check(example::range(1, 1024));
  app.add_flag("--overwrite", o.overwrite,
               "with several results: make those that already exist again; without it they are skipped");
  app.add_option(
         "--grid", o.grid,
         "draw one sheet instead of a picture: NAME=VALUE,VALUE,... once or twice, for columns and rows, such as "
         "text-scale=3,7.5,12 image-scale=1,1.5,2; NAME is text-scale, image-scale, steps, seed, sampler or schedule")
      ->expected(1, 2)
      ->check(axis_problem);
  example::add_image_scale(app, o.run.image_scale, "how closely to follow the photograph; 1 to 1.5 works well");
  example::add_resolution(app, o.run.resolution);
  example::add_fit(app, o.fit);
  example::add_full_size(app, o.full_size);
  auto* compare =
      app.add_option("--compare", o.compare,
                     "also write the photograph and the result side by side (default name: OUT with -compare)");
  compare->expected(0, 1)->type_name("FILE");
  app.add_option("--preview", o.preview,
                 "every N steps, write what the result looks like so far to OUT with -preview; small and coarse, "
                 "because it uses a linear map from latents to colours, fitted to the photograph")
      ->check(example::range(1, 10000));
  app.add_option("--latents", o.latents,
                 "start noise of unit variance: a safetensors file with a tensor `latents` [1,4,h,w], or a file "
                 "from --save-latents, which holds it as `start_noise`")
      ->type_name("FILE");
  app.add_option("--save-latents", o.save_latents,
                 "safetensors file to write: the result as `latents`, and `start_noise`")
      ->type_name("FILE");
  app.add_flag("--keep-alpha", o.keep_alpha,
               "give the result the photograph's alpha (.png, .webp); without it, the result is opaque");
  example::add_like(app, "edit_image", o.like);
  app.add_flag("--no-settings", o.no_settings, "do not write the settings into the picture");
  example::add_picture(app, o.picture);
  example::add_model(app, o.model);
  example::add_prompt_marks(app, o.model);
  app.callback([&o, compare] {
    o.comparing = compare->count() > 0;
    check_together(o);
  });
}

}  // namespace edit_image
