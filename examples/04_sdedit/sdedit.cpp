// Redraws a photograph to match a prompt (SDEdit): the photograph sets the layout, the prompt the rest.
//
//   sdedit --model stable-diffusion --image in.jpg --prompt "a watercolour of a harbour" --strength 0.6 --out out.png

#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "support/fit.hpp"
#include "support/full_size.hpp"
#include "support/labels.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/range.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  example::PictureOptions picture;
  std::filesystem::path image;
  std::string prompt;
  std::vector<double> strengths{0.6};
  std::string fit;
  bool full_size = false;
};

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto photo = example::read_photo(o.image, o.picture).image;
  const auto model = example::open_model(o.model, example::numerics_of(r));
  auto pipeline = model.text_to_image();
  if (!model.settings().sampler) pipeline.sampler = ip2p::Ddim{};
  example::configure(pipeline, r, model);
  const auto resolution = example::resolution_of(pipeline, r);
  const auto fitted = ip2p::fit_photo(photo, example::fit_rule(o.fit, resolution, example::numerics_of(r)));
  example::report_photo(o.image, fitted, o.full_size);
  example::report_prompts(model, o.prompt, r);
  fmt::print("{}\n", example::describe_run(pipeline, r, model, resolution));
  std::fflush(stdout);
  const auto settings = example::take_fitted(pipeline, example::settings_of(r), fitted);
  std::vector<ip2p::Image> redrawn;
  std::vector<std::string> labels{"photograph"};
  for (const double strength : o.strengths) {
    example::ProgressBar bar(stderr);
    auto watched = settings;
    watched.hooks = example::watched(bar, interrupt);
    auto noise = example::noise_of(r);  // the same for every strength
    redrawn.push_back(ip2p::sdedit(pipeline, {&fitted.image, 1}, {&o.prompt, 1}, {.strength = strength}, watched, noise)
                          .images.front());
    labels.push_back(fmt::format("\"{}\", strength {}, seed {}", o.prompt, strength, r.seed));
  }
  const auto pictures =
      example::photograph_and_edits(pipeline, photo, fitted, std::move(redrawn), settings, o.full_size);
  // One strength gives one picture; several give a row that begins with the photograph.
  const auto result = o.strengths.size() == 1 ? pictures.back() : example::labelled_row(pictures, labels);
  ip2p::write_image(r.out, result, r.quality);
  example::report_memory(*model.options().device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "sdedit", "Redraws a photograph to match a prompt with a Stable Diffusion model (SDEdit).",
      [&](CLI::App& app) {
        app.add_option("--image", o.image, "photograph to redraw")->required();
        app.add_option("--prompt", o.prompt, "what the result should show")->required();
        example::add_run(app, o.run, "the model's, or 50", "the model's, or 7.5", "the model's, or ddim");
        app.add_option(
               "--strength", o.strengths,
               "how much to change: 0 keeps the photograph, 1 discards it; several values give a row of pictures")
            ->capture_default_str()
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->check(example::range(0.0, 1.0));
        example::add_resolution(app, o.run.resolution);
        example::add_fit(app, o.fit);
        example::add_full_size(app, o.full_size);
        example::add_picture(app, o.picture);
        example::add_model(app, o.model);
        example::add_prompt_marks(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
