// Draws a picture and what becomes of it under another prompt (Prompt-to-Prompt), side by side.
//
//   prompt_to_prompt --model stable-diffusion --prompt "a cat on a wall" --edited "a dog on a wall" --out out.png

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/attention/heat_map.hpp"
#include "ip2p/attention/observed.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"
#include "support/prompt_edit.hpp"

namespace {

struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  example::PromptEditOptions edit;
  std::string heat_map;
  std::int64_t width = 512, height = 512;
};

int run(const Options& o, const example::Interrupt& interrupt) {
  const auto& r = o.run;
  example::check_folders({&r.out});
  const auto model = example::open_model(o.model);
  const auto edit = example::prompt_edit(o.edit, model.tokenizer);
  for (const auto& prompt : edit.prompts) example::report_prompt(model.tokenizer, "prompt", prompt);
  const ip2p::Ddim published{.final_sigma = ip2p::ddim_schedule(model.scheduler).training.sigma_min()};
  const auto sampler = r.sampler ? ip2p::AnySampler::named(*r.sampler) : ip2p::AnySampler(published);
  ip2p::TextToImagePipeline pipeline{model.text_encoder(),
                                     model.codec(),
                                     model.network<ip2p::UNet>(),
                                     sampler,
                                     ip2p::TextGuidance{r.text_scale.value_or(7.5)},
                                     model.scheduler};
  example::ProgressBar bar(stderr);
  const ip2p::PromptToPromptOptions options{.steps = r.steps.value_or(50),
                                            .seed = r.seed,
                                            .negative_prompt = r.negative_prompt,
                                            .width = o.width,
                                            .height = o.height,
                                            .numerics = r.numerics_policy(),
                                            .blend = edit.blend,
                                            .hooks = example::watched(bar, interrupt)};
  const std::int64_t recorded = o.heat_map.empty() ? 0 : 32 * 32;  // pixels of the largest map; 0 looks at none
  const auto maps = ip2p::StoreMaps{.max_tokens = recorded}.start();
  const ip2p::Observed attention(edit.attention, maps);
  auto pictures = ip2p::prompt_to_prompt(pipeline, edit.prompts, attention, options).images;
  if (!o.heat_map.empty()) {
    const auto f = 4 * pipeline.codec().downscale();
    const auto seen = maps->maps(o.height / f, o.width / f);
    const auto count = pictures.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto tokens = ip2p::prompt_tokens(model.tokenizer, edit.prompts[i]).find(o.heat_map);
      if (tokens.empty()) continue;
      const auto map = ip2p::word_map(seen[static_cast<std::int64_t>(i)], tokens);
      pictures.push_back(ip2p::overlay_heat_map(pictures[i], map));
    }
    ip2p::require(pictures.size() > count, "--heat-map: expected a word of the prompts, found '{}'", o.heat_map);
  }
  ip2p::write_image(r.out, example::side_by_side(pictures), r.quality);
  example::report_memory(model.load.device);
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Draws a picture and its edits by other prompts with a Stable Diffusion model (Prompt-to-Prompt)."};
  Options o;
  example::add_common(app);
  example::add_prompt_edit(app, o.edit);
  example::add_run(app, o.run, "50", "7.5", "ddim as published");
  app.remove_option(app.get_option("--schedule"));  // the published timesteps are part of the method
  app.add_option("--heat-map", o.heat_map, "add pictures of where this word looks");
  app.add_option("--width", o.width, "in pixels, a multiple of 8")->capture_default_str()->check(CLI::Range(64, 4096));
  app.add_option("--height", o.height, "in pixels, a multiple of 8")
      ->capture_default_str()
      ->check(CLI::Range(64, 4096));
  example::add_model(app, o.model);
  return example::run_program("prompt_to_prompt", app, argc, argv,
                              [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
