// Redraws the masked part of a photograph: with a Stable Diffusion model, an inpainting model or, by an instruction,
// an InstructPix2Pix model. The model's input channels decide.
//
//   inpaint --model stable-diffusion --image in.jpg --mask mask.png --prompt "a sailing boat" --out out.png

#include <cstdio>
#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "ip2p/pipeline/inpaint.hpp"
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
  std::string prompt;
  double strength = 1.0;
  bool keep_codec = false, full_size = false;
};

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto picture = example::read_photo(o.image, o.picture);
  const auto& photo = picture.image;
  const auto mask = example::read_mask(o.mask, o.picture, picture);
  ip2p::require_mask_fits(mask, photo);
  const auto model = example::open_model(o.model, example::numerics_of(r));
  example::report_prompts(model, o.prompt, r);
  example::ProgressBar bar(stderr);
  const auto settings = example::settings_of(r, example::watched(bar, interrupt));
  auto noise = example::noise_of(r);
  // Options and output are the same for both kinds of pipeline.
  const auto prepared = [&](auto pipeline) {
    example::configure(pipeline, r, model);
    example::record_run(pipeline, r, pipeline.completed(settings));
    fmt::print("{}\n", example::describe_run(pipeline, r, model, example::resolution_of(pipeline, r)));
    std::fflush(stdout);
    return pipeline;
  };
  const auto enlarged = [&](const auto& pipeline, ip2p::Image small) {
    if (!o.full_size) return small;
    return ip2p::at_full_size(pipeline, photo, mask, small, settings);
  };
  ip2p::Image result;
  if (model.kind() == ip2p::ModelKind::editor) {
    const auto pipeline = prepared(model.editor());
    result = enlarged(pipeline, ip2p::masked_edit(pipeline, photo, mask, o.prompt, settings, noise));
  } else {
    const auto pipeline = prepared(model.inpainter());
    result = enlarged(pipeline, pipeline.run(photo, mask, o.prompt, {.strength = o.strength, .paste = !o.keep_codec},
                                             settings, noise));
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
                       "picture of the same shape, bright where to redraw; its alpha counts too, and so does a hole in "
                       "a photograph")
            ->type_name("FILE")
            ->required();
        app.add_option("--prompt", o.prompt, "what to draw there; an instruction for InstructPix2Pix models")
            ->required();
        example::add_run(app, o.run, "the model's, or 50; 100 for InstructPix2Pix", "the model's, or 7.5",
                         "the model's, or euler-ancestral");
        app.add_option("--strength", o.strength, "how much to change: 0 keeps what is there, 1 starts from noise")
            ->capture_default_str()
            ->check(example::range(0.0, 1.0));
        example::add_image_scale(app, o.run.image_scale, "InstructPix2Pix: how closely to follow the photograph");
        example::add_resolution(app, o.run.resolution);
        example::add_full_size(app, o.full_size);
        example::add_picture(app, o.picture);
        app.add_flag("--keep-codec", o.keep_codec,
                     "outside the mask, keep the codec's pixels instead of the photograph's");
        example::add_model(app, o.model);
        example::add_prompt_marks(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
