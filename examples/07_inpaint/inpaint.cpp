// Redraws the masked part of a photograph: with a Stable Diffusion model, an inpainting model or, by an instruction,
// an InstructPix2Pix model. The model's input channels decide.
//
//   inpaint --model stable-diffusion --image in.jpg --mask mask.png --prompt "a sailing boat" --out out.png

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "support/fit.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  example::PictureOptions picture;
  std::filesystem::path image, mask;
  std::string prompt, fit;
  std::optional<double> strength;
  bool keep_codec = false, model_size = false, full_size = false;
};

/// Refuses what this kind of model has no use for.
void check_options(const Options& o, ip2p::ModelKind kind) {
  const bool editor = kind == ip2p::ModelKind::editor;
  ip2p::require(!editor || !o.strength,
                "--strength: expected a Stable Diffusion or an inpainting model, found an InstructPix2Pix model, which "
                "always begins with noise");
  ip2p::require(!editor || !o.keep_codec,
                "--keep-codec: expected a Stable Diffusion or an inpainting model, found an InstructPix2Pix model");
  ip2p::require(editor || !o.run.image_scale,
                "--image-scale: expected an InstructPix2Pix model, found one that is not guided by the photograph");
}

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto picture = example::read_photo(o.image, o.picture);
  const auto& photo = picture.image;
  const auto mask = example::read_mask(o.mask, o.picture, picture);
  ip2p::require_mask_fits(mask, photo);  // before the model is opened
  const auto model = example::open_model(o.model, example::numerics_of(r));
  check_options(o, model.kind());
  example::report_prompts(model, o.prompt, r);
  example::ProgressBar bar(stderr);
  auto settings = example::settings_of(r, example::watched(bar, interrupt));
  ip2p::FittedPhoto fitted;
  auto noise = example::noise_of(r);
  // Options and output are the same for both kinds of pipeline.
  const auto prepared = [&](auto pipeline) {
    example::configure(pipeline, r, model);
    const auto all = pipeline.completed(settings);
    fitted = ip2p::fit_photo(photo, mask, example::fit_rule(o.fit, all.resolution, *all.numerics));
    example::report_photo(o.image, fitted, !o.model_size, mask);
    example::record_run(pipeline, r, all);
    fmt::print("{}\n", example::describe_run(pipeline, r, model, example::resolution_of(pipeline, r)));
    std::fflush(stdout);
    settings = example::take_fitted(pipeline, settings, fitted);
    return pipeline;
  };
  // The photograph, with what was drawn inside of the mask.
  const auto whole = [&](const auto& pipeline, const ip2p::Image& drawn) {
    return o.model_size ? ip2p::own_part(fitted, drawn)
                        : ip2p::at_full_size(pipeline, photo, mask, fitted, drawn, settings);
  };
  ip2p::Image result;
  if (model.kind() == ip2p::ModelKind::editor) {
    const auto pipeline = prepared(model.editor());
    result = whole(pipeline, ip2p::masked_edit(pipeline, fitted.image, fitted.mask, o.prompt, settings, noise));
  } else {
    const auto pipeline = prepared(model.inpainter());
    result =
        whole(pipeline, pipeline.run(fitted.image, fitted.mask, o.prompt,
                                     {.strength = o.strength.value_or(1.0), .paste = !o.keep_codec}, settings, noise));
  }
  interrupt.check();
  ip2p::write_image(r.out, result, r.quality);
  auto& report = example::result();
  report.setting("image", o.image.string());
  report.setting("mask", o.mask.string());
  report.setting("prompt", o.prompt);
  report.wrote(r.out, result);
  example::report_memory(*model.options().device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "inpaint", "Redraws the masked part of a photograph.",
      [&](CLI::App& app) {
        app.add_option("--image", o.image, "photograph to edit")->type_name("FILE")->required();
        app.add_option("--mask", o.mask,
                       "picture of the same shape, bright where to redraw; alpha works too, and so does a transparent "
                       "hole in a photograph")
            ->type_name("FILE")
            ->required();
        app.add_option("--prompt", o.prompt, "what to draw there; an instruction for InstructPix2Pix models")
            ->required();
        example::add_run(app, o.run, "the model's, or 50; 100 for InstructPix2Pix", "the model's, or 7.5",
                         "the model's, or euler-ancestral");
        app.add_option("--strength", o.strength,
                       "how much to change: 0 keeps what is there, 1 starts from noise (default: 1)")
            ->check(example::range(0.0, 1.0));
        example::add_image_scale(app, o.run.image_scale, "InstructPix2Pix: how closely to follow the photograph");
        example::add_resolution(app, o.run.resolution);
        example::add_fit(app, o.fit);
        auto* model_size = app.add_flag("--model-size", o.model_size,
                                        "give the model's own picture, at the size at which it draws and of the part "
                                        "of the photograph that it sees");
        app.add_flag("--full-size", o.full_size, "the result has the photograph's own size anyway")->group("");
        example::add_picture(app, o.picture);
        app.add_flag("--keep-codec", o.keep_codec,
                     "outside the mask, keep the codec's pixels instead of the photograph's")
            ->needs(model_size);
        example::add_model(app, o.model);
        example::add_prompt_marks(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
