// Draws pictures from a prompt with Stable Diffusion: one, several seeds, an enlarged one, or a walk between two seeds.
//
//   text_to_image --model stable-diffusion --prompt "a lighthouse at dusk" --out out.png

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/latent_walk.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/pipeline/two_pass.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  std::string prompt;
  std::int64_t width = 512, height = 512, count = 1, frames = 5;
  std::optional<double> enlarge;
  std::optional<std::uint64_t> walk_to;
};

int run(const Options& o, const example::Interrupt& interrupt) {
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto model = example::open_model(o.model);
  example::report_prompt(model.tokenizer, "prompt", o.prompt);
  ip2p::TextToImagePipeline generate{model.text_encoder(),
                                     model.codec(),
                                     model.network<ip2p::UNet>(),
                                     ip2p::AnySampler::named(r.sampler.value_or("euler-ancestral")),
                                     ip2p::TextGuidance{r.text_scale.value_or(7.5)},
                                     model.scheduler};
  generate.branches_at_once = model.branches_at_once();
  example::ProgressBar bar(stderr);
  ip2p::TextToImageOptions options{.steps = r.steps.value_or(50),
                                   .seed = r.seed,
                                   .negative_prompt = r.negative_prompt,
                                   .width = o.width,
                                   .height = o.height,
                                   .numerics = r.numerics_policy(),
                                   .hooks = example::watched(bar, interrupt)};
  std::vector<ip2p::Image> pictures;
  if (o.enlarge) {
    pictures.push_back(two_pass(generate, o.prompt, options, {.factor = *o.enlarge, .steps = options.steps}));
  } else if (o.walk_to) {
    pictures = latent_walk(generate, o.prompt, *o.walk_to, o.frames, options);
  } else {
    const std::vector<std::string> prompts(static_cast<std::size_t>(o.count), o.prompt);
    const auto schedule = example::schedule_of(r, model.scheduler);
    ip2p::TorchNoise noise(ip2p::seeds_for(prompts.size(), options.seed, {}));
    pictures = generate.decode(generate.sample(prompts, options, schedule, noise), options.numerics);
  }
  ip2p::write_image(r.out, example::side_by_side(pictures), r.quality);
  example::report_memory(model.load.device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Draws pictures from a prompt with a Stable Diffusion model."};
  Options o;
  example::add_common(app);
  app.add_option("--prompt", o.prompt, "what to draw")->required();
  example::add_run(app, o.run, "50", "7.5", "euler-ancestral");
  app.add_option("--width", o.width, "in pixels, a multiple of 8")->capture_default_str()->check(CLI::Range(64, 4096));
  app.add_option("--height", o.height, "in pixels, a multiple of 8")
      ->capture_default_str()
      ->check(CLI::Range(64, 4096));
  auto* count = app.add_option("--count", o.count, "pictures side by side, of seeds SEED, SEED + 1, ...")
                    ->capture_default_str()
                    ->check(CLI::Range(1, 16));
  auto* enlarge = app.add_option("--enlarge", o.enlarge, "second pass: redraw the picture enlarged by this factor")
                      ->check(CLI::Range(1.05, 8.0))
                      ->excludes(count);
  auto* walk = app.add_option("--walk-to", o.walk_to, "pictures on the way from the noise of SEED to that of this seed")
                   ->check(example::whole_number)
                   ->excludes(count)
                   ->excludes(enlarge);
  app.add_option("--frames", o.frames, "pictures of the walk")
      ->capture_default_str()
      ->check(CLI::Range(2, 64))
      ->needs(walk);
  app.get_option("--schedule")->excludes(enlarge)->excludes(walk);
  example::add_model(app, o.model);
  return example::run_program("text_to_image", app, argc, argv,
                              [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
