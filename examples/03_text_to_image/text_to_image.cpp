// Draws pictures from a prompt with Stable Diffusion: one, several seeds, an enlarged one, or a walk between two seeds.
//
//   text_to_image --model stable-diffusion --prompt "a lighthouse at dusk" --out out.png

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/latent_walk.hpp"
#include "ip2p/pipeline/two_pass.hpp"
#include "support/labels.hpp"
#include "support/model.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  std::string prompt;
  std::optional<std::int64_t> width, height;
  std::int64_t count = 1, frames = 5;
  std::optional<double> enlarge;
  std::optional<std::uint64_t> walk_to;
};

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  if (o.walk_to) example::require_seed("--walk-to", *o.walk_to, r.noise);
  const auto model = example::open_model(o.model, example::numerics_of(r));
  auto generate = model.text_to_image();
  example::configure(generate, r, model);
  example::report_prompts(model, o.prompt, r);
  example::ProgressBar bar(stderr);
  auto settings = generate.completed(example::settings_of(r, example::watched(bar, interrupt)));
  const auto square = ip2p::picture_size(settings);
  settings.size = {.width = o.width.value_or(square.width), .height = o.height.value_or(square.height)};
  std::string larger;
  if (o.enlarge) {
    const auto size = ip2p::enlarged_size(generate, *settings.size, {.factor = *o.enlarge});
    larger = fmt::format(", then {}x{}", size.width, size.height);
  }
  fmt::print("{}x{} pixels{}; {}\n", settings.size->width, settings.size->height, larger,
             example::describe_run(generate, r, model, {}));
  std::fflush(stdout);
  const example::NamedNoise noise_of_seeds{r.noise};
  std::vector<ip2p::Image> pictures;
  std::vector<std::string> labels;  // what tells them apart
  if (o.enlarge) {
    pictures.push_back(two_pass(generate, o.prompt, settings, {.factor = *o.enlarge}, noise_of_seeds));
  } else if (o.walk_to) {
    pictures = latent_walk(generate, o.prompt, *o.walk_to, o.frames, settings, noise_of_seeds);
    for (std::int64_t i = 0; i < o.frames; ++i) {
      labels.push_back(fmt::format("seed {} to {}, {} of {}", r.seed, *o.walk_to, i + 1, o.frames));
    }
  } else {
    const std::vector<std::string> prompts(static_cast<std::size_t>(o.count), o.prompt);
    auto noise = example::noise_of(r, prompts.size());
    pictures = generate.run(prompts, settings, noise).images;
    for (std::uint64_t i = 0; i < prompts.size(); ++i) labels.push_back(fmt::format("seed {}", r.seed + i));
  }
  interrupt.check();
  const auto drawn = pictures.size() == 1 ? pictures.front() : example::labelled_row(pictures, labels);
  ip2p::write_image(r.out, drawn, r.quality);
  example::result().setting("prompt", o.prompt);
  example::record_run(generate, r, settings);
  example::result().wrote(r.out, drawn);
  example::report_memory(*model.options().device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "text_to_image", "Draws pictures from a prompt with a Stable Diffusion model.",
      [&](CLI::App& app) {
        app.add_option("--prompt", o.prompt, "what to draw")->required();
        example::add_run(app, o.run, "the model's, or 50", "the model's, or 7.5", "the model's, or euler-ancestral");
        example::add_size(app, o.width, o.height, "the model's, or 512");
        auto* count =
            app.add_option("--count", o.count, "number of pictures, side by side, with seeds SEED, SEED + 1, ...")
                ->capture_default_str()
                ->check(example::range(1, 16));
        auto* enlarge =
            app.add_option("--enlarge", o.enlarge, "second pass: redraw the picture enlarged by this factor")
                ->check(example::range(1.05, 8.0))
                ->excludes(count);
        auto* walk =
            app.add_option("--walk-to", o.walk_to, "draw a walk from the noise of --seed to the noise of this seed")
                ->check(example::whole_number)
                ->excludes(count)
                ->excludes(enlarge);
        app.add_option("--frames", o.frames, "number of pictures in the walk")
            ->capture_default_str()
            ->check(example::range(2, 64))
            ->needs(walk);
        example::add_model(app, o.model);
        example::add_prompt_marks(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
