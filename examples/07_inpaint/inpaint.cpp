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

/// The percentage of the mask that lies beyond the part of the photograph that the model sees.
double unseen_share(const ip2p::Image& mask, const ip2p::Box& seen) {
  std::int64_t all = 0, unseen = 0;
  for (std::int64_t y = 0; y < mask.height; ++y) {
    for (std::int64_t x = 0; x < mask.width; ++x) {
      const auto* pixel = mask.pixels.data() + (y * mask.width + x) * 3;
      if (2 * (pixel[0] + pixel[1] + pixel[2]) <= 3 * 255) continue;
      const auto across = static_cast<float>(x) + 0.5F, down = static_cast<float>(y) + 0.5F;
      ++all;
      if (across < seen.left || across > seen.right || down < seen.top || down > seen.bottom) ++unseen;
    }
  }
  return all == 0 ? 0.0 : 100.0 * static_cast<double>(unseen) / static_cast<double>(all);
}

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto picture = example::read_photo(o.image, o.picture);
  const auto& photo = picture.image;
  const auto mask = example::read_mask(o.mask, o.picture, picture);
  ip2p::require_mask_fits(mask, photo);
  const auto model = example::open_model(o.model, example::numerics_of(r));
  check_options(o, model.kind());
  example::report_prompts(model, o.prompt, r);
  example::ProgressBar bar(stderr);
  const auto settings = example::settings_of(r, example::watched(bar, interrupt));
  auto noise = example::noise_of(r);
  // Options and output are the same for both kinds of pipeline.
  const auto prepared = [&](auto pipeline) {
    example::configure(pipeline, r, model);
    const auto all = pipeline.completed(settings);
    const auto size = ip2p::edit_size(photo.width, photo.height, all.resolution, *all.numerics);
    fmt::print("photo: {}, {}x{}, redrawn at {}x{}{}\n", o.image.string(), photo.width, photo.height, size.width,
               size.height, o.model_size ? "" : ", the rest stays");
    example::record_run(pipeline, r, all);
    fmt::print("{}\n", example::describe_run(pipeline, r, model, example::resolution_of(pipeline, r)));
    std::fflush(stdout);
    const auto unseen = unseen_share(mask, ip2p::seen_part({photo.width, photo.height}, all.resolution, *all.numerics));
    if (unseen >= 0.5) {
      fmt::print(stderr,
                 "warning: {:.0f} % of the mask lies at edges that the model does not see; {}; with --numerics "
                 "diffusers it sees the whole photograph\n",
                 unseen, o.model_size ? "the result lacks them" : "they are changed like what lies next to them");
    }
    return pipeline;
  };
  // The photograph, with what was drawn inside of the mask.
  const auto whole = [&](const auto& pipeline, ip2p::Image drawn) {
    if (o.model_size || (drawn.width == photo.width && drawn.height == photo.height)) return drawn;
    return ip2p::at_full_size(pipeline, photo, mask, drawn, settings);
  };
  ip2p::Image result;
  if (model.kind() == ip2p::ModelKind::editor) {
    const auto pipeline = prepared(model.editor());
    result = whole(pipeline, ip2p::masked_edit(pipeline, photo, mask, o.prompt, settings, noise));
  } else {
    const auto pipeline = prepared(model.inpainter());
    result =
        whole(pipeline, pipeline.run(photo, mask, o.prompt,
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
                       "picture of the same shape, bright where to redraw; its alpha counts too, and so does a hole in "
                       "a photograph")
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
        auto* model_size =
            app.add_flag("--model-size", o.model_size,
                         "give the result at the size at which the model draws, cropped to what it sees");
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
