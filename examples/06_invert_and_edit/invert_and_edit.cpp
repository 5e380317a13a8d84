// Edits a photograph by changing the words that describe it: DDIM inversion, null-text optimisation, Prompt-to-Prompt.
// The result shows the photograph, its reconstruction and the edits.
//
//   invert_and_edit --model stable-diffusion --image cat.jpg --source "a cat" --prompt "a dog" --out out.png

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "support/fit.hpp"
#include "support/full_size.hpp"
#include "support/labels.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/prompt_edit.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::PromptEditOptions edit;
  example::PictureOptions picture;
  std::filesystem::path image, out;
  std::string schedule, fit;
  std::int64_t steps = 50, inner_steps = 10;
  std::optional<std::int64_t> resolution;
  double text_scale = 7.5;
  int quality = 95;
  bool full_size = false;
};

int run(Options o, const example::Interrupt& interrupt) {
  o.edit = example::without_named_loras(o.edit, o.model);
  example::check_folders({&o.out});
  const auto photo = example::read_photo(o.image, o.picture).image;
  const auto model = example::open_model(o.model);
  const auto edit = example::prompt_edit(o.edit, model);
  for (const auto& prompt : edit.prompts) {
    example::report_prompt(model, &prompt == &edit.prompts.front() ? "source" : "prompt", prompt);
  }
  auto pipeline = model.text_to_image();
  pipeline.guidance.text_scale = o.text_scale;
  pipeline.diffusion.schedule = ip2p::ddim_schedule(model.scheduler());
  if (!o.schedule.empty()) pipeline.diffusion.schedule = ip2p::AnySchedule::named(o.schedule, model.scheduler());
  auto settings = pipeline.completed({.steps = o.steps, .resolution = o.resolution});
  const auto fitted = ip2p::fit_photo(photo, example::fit_rule(o.fit, settings.resolution, *settings.numerics));
  example::report_photo(o.image, fitted, o.full_size);
  std::fflush(stdout);
  settings = example::take_fitted(pipeline, settings, fitted);
  const auto begin = [&](const char* name, example::ProgressBar& bar) {
    if (!example::quiet()) fmt::print(stderr, "{}\n", name);
    settings.hooks = example::watched(bar, interrupt);
  };
  ip2p::Inversion inversion;
  {
    example::ProgressBar bar(stderr);
    begin("inversion", bar);
    inversion = ip2p::invert(pipeline, fitted.image, o.edit.source, {}, settings);
  }
  fmt::print("inversion: reconstruction {:.2f} dB to the photograph (the codec alone {:.2f} dB), latent error {:.3g}\n",
             inversion.psnr[0], inversion.codec_psnr[0], inversion.latent_mse[0]);
  at::Tensor null_texts;
  if (o.inner_steps > 0) {
    example::ProgressBar bar(stderr);
    begin("null-text optimisation", bar);
    const auto found = ip2p::null_text(pipeline, inversion, {.inner_steps = o.inner_steps}, settings);
    null_texts = found.texts;
    fmt::print("null-text optimisation: latent error {:.3g} under a text scale of {:g}\n", found.latent_mse[0],
               o.text_scale);
  }
  std::vector<ip2p::Image> edited;
  {
    example::ProgressBar bar(stderr);
    begin("edit", bar);
    edited = ip2p::prompt_to_prompt(pipeline, inversion, null_texts, edit.prompts, edit.attention,
                                    {.blend = edit.blend}, settings)
                 .images;
  }
  const auto pictures =
      example::photograph_and_edits(pipeline, photo, fitted, std::move(edited), settings, o.full_size);
  std::vector<std::string> labels{"photograph"};
  for (const auto& prompt : edit.prompts) labels.push_back(fmt::format("\"{}\"", prompt));
  labels[1] += ", its reconstruction";
  interrupt.check();
  const auto row = example::labelled_row(pictures, labels);
  ip2p::write_image(o.out, row, o.quality);
  auto& report = example::result();
  report.setting("image", o.image.string());
  report.setting("source", o.edit.source);
  report.setting("prompt", o.edit.edited);
  report.setting("steps", o.steps);
  report.setting("inner-steps", o.inner_steps);
  report.setting("text-scale", o.text_scale);
  report.setting("schedule", std::string(pipeline.diffusion.schedule.name()));
  report.setting("resolution", settings.resolution);
  report.wrote(o.out, row);
  example::report_memory(*model.options().device);
  fmt::print("{}\n", o.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "invert_and_edit", "Edits a photograph by the words that describe it, with a Stable Diffusion model.",
      [&](CLI::App& app) {
        app.add_option("--image", o.image, "photograph to edit")->type_name("FILE")->required();
        example::add_prompt_edit(app, o.edit, o.model);
        app.add_option("--out", o.out, "picture to write: photograph, reconstruction and edits side by side")
            ->type_name("FILE")
            ->required()
            ->check(example::picture_name);
        app.add_option("--steps", o.steps, "number of steps, for the inversion and for the edit")
            ->capture_default_str()
            ->check(example::range(2, 100));
        app.add_option("--inner-steps", o.inner_steps, "null-text updates per step; 0 turns the optimisation off")
            ->capture_default_str()
            ->check(example::range(0, 100));
        app.add_option("--text-scale", o.text_scale, "how closely to follow the prompt")
            ->capture_default_str()
            ->check(example::guidance_scale);
        example::add_schedule(app, o.schedule, "linear as published");
        app.add_option("--resolution", o.resolution,
                       "length of the longer side in pixels (default: the model's, or 512)")
            ->check(example::range(64, 16384));
        example::add_fit(app, o.fit);
        example::add_full_size(app, o.full_size);
        example::add_picture(app, o.picture);
        example::add_quality(app, o.quality);
        example::add_json(app);
        example::add_model(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
