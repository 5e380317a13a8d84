// Redraws a photograph after a text (SDEdit): the photograph decides the layout, the prompt the rest.
//
//   sdedit --model stable-diffusion --image in.jpg --prompt "a watercolour of a harbour" --strength 0.6 --out out.png

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  std::filesystem::path image;
  std::string prompt;
  std::vector<double> strengths{0.6};
  std::optional<std::int64_t> resolution;
};

int run(const Options& o, const example::Interrupt& interrupt) {
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto photo = ip2p::read_image(o.image);
  const auto model = example::open_model(o.model);
  example::report_prompt(model.tokenizer, "prompt", o.prompt);
  ip2p::TextToImagePipeline pipeline{model.text_encoder(),
                                     model.codec(),
                                     model.network<ip2p::UNet>(),
                                     ip2p::AnySampler::named(r.sampler.value_or("ddim")),
                                     ip2p::TextGuidance{r.text_scale.value_or(7.5)},
                                     model.scheduler};
  pipeline.branches_at_once = model.branches_at_once();
  const auto numerics = r.numerics_policy();
  const auto schedule = example::schedule_of(r, model.scheduler);
  const auto before = ip2p::prepare_photos({&photo, 1}, o.resolution, numerics);
  auto pictures = ip2p::tensor_to_images(before, ip2p::Numerics::diffusers);
  const auto steps = r.steps.value_or(50);
  ip2p::TorchNoise noise(r.seed);
  const auto shape = pipeline.latent_shape(1, before.size(3), before.size(2));
  const auto clean = pipeline.clean_latents(before, noise.normal(shape, steps + 1));
  for (const double strength : o.strengths) {
    example::ProgressBar bar(stderr);
    const ip2p::SdEditOptions options{.strength = strength,
                                      .steps = steps,
                                      .negative_prompt = r.negative_prompt,
                                      .hooks = example::watched(bar, interrupt)};
    auto same_noise = noise;  // of every strength
    const auto latents = ip2p::sdedit_latents(pipeline, clean, {&o.prompt, 1}, options, schedule, same_noise);
    pictures.push_back(pipeline.decode(latents, numerics).front());
  }
  // One strength gives its picture; several give the photograph and all of them side by side.
  const auto result = o.strengths.size() == 1 ? pictures.back() : example::side_by_side(pictures);
  ip2p::write_image(r.out, result, r.quality);
  example::report_memory(model.load.device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Redraws a photograph after a text with a Stable Diffusion model (SDEdit)."};
  Options o;
  example::add_common(app);
  app.add_option("--image", o.image, "photograph (PNG, JPEG, WebP)")->required();
  app.add_option("--prompt", o.prompt, "what the result shows")->required();
  example::add_run(app, o.run, "50", "7.5", "ddim");
  app.add_option("--strength", o.strengths,
                 "0 keeps the photograph, 1 nothing of it; several values give a row of pictures")
      ->capture_default_str()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--resolution", o.resolution, "long side in pixels (default: 512)")->check(CLI::Range(64, 16384));
  example::add_model(app, o.model);
  return example::run_program("sdedit", app, argc, argv,
                              [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
