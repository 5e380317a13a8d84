// Redraws the part of a photograph that a mask shows: with a Stable Diffusion model, an inpainting model, or, by an
// instruction, with an InstructPix2Pix model. The model's input channels decide.
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
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/program.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  std::filesystem::path image, mask;
  std::string prompt;
  double strength = 1.0, image_scale = 1.5;
  bool keep_codec = false;
  std::optional<std::int64_t> resolution;
};

int run(const Options& o, const example::Interrupt& interrupt) {
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto photo = ip2p::read_image(o.image);
  const auto mask = ip2p::read_image(o.mask);
  const auto model = example::open_model(o.model);
  example::report_prompt(model.tokenizer, "prompt", o.prompt);
  const auto unet = model.network<ip2p::UNet>();
  const auto sampler = ip2p::AnySampler::named(r.sampler.value_or("euler-ancestral"));
  const double text_scale = r.text_scale.value_or(7.5);
  const auto codec = model.codec();
  example::ProgressBar bar(stderr);
  ip2p::Image result;
  if (unet.in_channels() == 2 * codec.latent_channels()) {
    ip2p::EditPipeline edit{model.text_encoder(),
                            codec,
                            unet,
                            sampler,
                            ip2p::DualGuidance{.image_scale = o.image_scale, .text_scale = text_scale},
                            model.scheduler};
    edit.branches_at_once = model.branches_at_once();
    result = ip2p::masked_edit(edit, photo, mask, o.prompt,
                               {.steps = r.steps.value_or(100),
                                .seed = r.seed,
                                .negative_prompt = r.negative_prompt,
                                .resolution = o.resolution,
                                .numerics = r.numerics_policy(),
                                .hooks = example::watched(bar, interrupt)});
  } else {
    ip2p::InpaintPipeline inpaint{model.text_encoder(),           codec,          unet, sampler,
                                  ip2p::TextGuidance{text_scale}, model.scheduler};
    inpaint.branches_at_once = model.branches_at_once();
    result = inpaint(photo, mask, o.prompt,
                     {.strength = o.strength,
                      .steps = r.steps.value_or(50),
                      .seed = r.seed,
                      .negative_prompt = r.negative_prompt,
                      .resolution = o.resolution,
                      .paste = !o.keep_codec,
                      .numerics = r.numerics_policy(),
                      .hooks = example::watched(bar, interrupt)});
  }
  ip2p::write_image(r.out, result, r.quality);
  example::report_memory(model.load.device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Redraws the part of a photograph that a mask shows."};
  Options o;
  example::add_common(app);
  app.add_option("--image", o.image, "photograph (PNG, JPEG, WebP)")->required();
  app.add_option("--mask", o.mask, "picture of the same size, bright where to redraw")->required();
  app.add_option("--prompt", o.prompt, "what to draw there; an instruction for InstructPix2Pix models")->required();
  example::add_run(app, o.run, "50; 100 for InstructPix2Pix", "7.5", "euler-ancestral");
  app.remove_option(app.get_option("--schedule"));
  app.add_option("--strength", o.strength, "0 keeps what is there, 1 begins from noise")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--image-scale", o.image_scale, "InstructPix2Pix: how much the photograph binds")
      ->capture_default_str()
      ->check(example::finite_number);
  app.add_option("--resolution", o.resolution, "long side in pixels (default: 512)")->check(CLI::Range(64, 16384));
  app.add_flag("--keep-codec", o.keep_codec, "take pixels outside the mask from the codec, not from the photograph");
  example::add_model(app, o.model);
  return example::run_program("inpaint", app, argc, argv,
                              [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
