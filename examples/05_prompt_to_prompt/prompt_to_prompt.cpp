// Draws a picture and its edit by another prompt (Prompt-to-Prompt), side by side.
//
//   prompt_to_prompt --model stable-diffusion --source "a cat on a wall" --prompt "a dog on a wall" --out out.png

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/attention/heat_map.hpp"
#include "ip2p/attention/observed.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "support/labels.hpp"
#include "support/model.hpp"
#include "support/program.hpp"
#include "support/prompt_edit.hpp"
#include "support/reporting.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  example::PromptEditOptions edit;
  std::string heat_map;
  std::optional<std::int64_t> width, height;
};

int run(Options o, const example::Interrupt& interrupt) {
  o.edit = example::without_named_loras(o.edit, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto model = example::open_model(o.model, example::numerics_of(r));
  const auto edit = example::prompt_edit(o.edit, model);
  for (const auto& prompt : edit.prompts) {
    example::report_prompt(model, &prompt == &edit.prompts.front() ? "source" : "prompt", prompt);
  }
  if (!r.negative_prompt.empty()) example::report_prompt(model, "negative prompt", r.negative_prompt);
  auto pipeline = model.text_to_image();
  // As published unless told otherwise, whatever the model recommends: sampler and timesteps belong together.
  const auto published = ip2p::ddim_schedule(model.scheduler());
  pipeline.diffusion.schedule = published;
  // Another schedule has a last level of its own, below which there is nothing to step to.
  pipeline.sampler = ip2p::Ddim{.final_sigma = r.schedule.empty() ? ip2p::lowest_trained_sigma(published) : 0.0};
  example::configure(pipeline, r, model);
  example::ProgressBar bar(stderr);
  auto settings = pipeline.completed(example::settings_of(r, example::watched(bar, interrupt)));
  const auto square = ip2p::picture_size(settings);
  const ip2p::Size size{.width = o.width.value_or(square.width), .height = o.height.value_or(square.height)};
  settings.size = size;
  const std::int64_t recorded = o.heat_map.empty() ? 0 : 32 * 32;  // pixels of the largest map; 0 records none
  const auto maps = ip2p::StoreMaps{.max_tokens = recorded}.start();
  const ip2p::Observed attention(edit.attention, maps);
  auto pictures =
      ip2p::prompt_to_prompt(pipeline, edit.prompts, attention, {.blend = edit.blend}, settings, example::noise_of(r))
          .images;
  std::vector<std::string> labels;
  for (const auto& prompt : edit.prompts) labels.push_back(fmt::format("\"{}\", seed {}", prompt, r.seed));
  if (!o.heat_map.empty()) {
    const auto f = 4 * pipeline.codec().downscale();
    const auto seen = maps->maps(size.height / f, size.width / f);
    const auto count = pictures.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto tokens = model.tokens(edit.prompts[i]).find(o.heat_map);
      if (tokens.empty()) continue;
      const auto map = ip2p::word_map(seen[static_cast<std::int64_t>(i)], tokens);
      pictures.push_back(ip2p::overlay_heat_map(pictures[i], map));
      labels.push_back(fmt::format("attention to \"{}\"", o.heat_map));
    }
    ip2p::require(pictures.size() > count, "--heat-map: expected a word of the prompts, found '{}'", o.heat_map);
  }
  interrupt.check();
  const auto row = example::labelled_row(pictures, labels);
  ip2p::write_image(r.out, row, r.quality);
  example::result().setting("source", o.edit.source);
  example::result().setting("prompt", o.edit.edited);
  example::record_run(pipeline, r, settings);
  example::result().wrote(r.out, row);
  example::report_memory(*model.options().device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "prompt_to_prompt",
      "Draws a picture and its edits by other prompts with a Stable Diffusion model (Prompt-to-Prompt).",
      [&](CLI::App& app) {
        example::add_prompt_edit(app, o.edit, o.model);
        example::add_run(app, o.run, "the model's, or 50", "the model's, or 7.5", "ddim as published",
                         "linear as published");
        app.add_option("--heat-map", o.heat_map, "also show the attention map of this word");
        example::add_size(app, o.width, o.height, "the model's, or 512");
        example::add_model(app, o.model);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
