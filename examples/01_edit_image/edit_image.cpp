// Edits a photograph by a written instruction, with a published InstructPix2Pix model or one of your own.
//
//   edit_image --model instruct-pix2pix --image in.jpg --prompt "make it snowy" --out out.png

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/unet/unet.hpp"
#include "options.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"

namespace edit_image {
namespace {

using ip2p::require;

/// Start noise of --latents.
at::Tensor read_latents(const std::filesystem::path& path) {
  const auto file = ip2p::SafetensorsFile::open(path);
  const auto names = file.names();
  const auto holds = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  require(holds("start_noise") || holds("latents"), "{}: expected a tensor 'latents', found {}", path.string(),
          fmt::join(names, ", "));
  const auto stored = file.tensor(holds("start_noise") ? "start_noise" : "latents");
  require(stored.is_floating_point() && stored.dim() == 4,
          "{}: latents: expected floating-point numbers [1,4,h,w], found {} {}", path.string(),
          at::toString(stored.scalar_type()), ip2p::shape_text(stored.sizes()));
  auto latents = stored.to(at::kFloat);
  require(at::isfinite(latents).all().item<bool>(), "{}: latents: expected finite numbers, found NaN or infinity",
          path.string());
  const double deviation = latents.numel() > 1 ? latents.std().item<double>() : 1.0;
  require(deviation > 0.5 && deviation < 2,
          "{}: latents: expected noise of unit variance (before it is scaled by sigma), found a standard deviation of "
          "{:.3g}",
          path.string(), deviation);
  return latents;
}

/// Number of network evaluations of a step; branches of zero weight are left out.
std::string describe_guidance(const ip2p::DualGuidance& guidance) {
  int evaluations = 0;
  for (const double weight : guidance.weights({})) evaluations += weight != 0;
  return fmt::format("image scale {:g}, text scale {:g}, {} evaluation{} a step{}", guidance.image_scale,
                     guidance.text_scale, evaluations, evaluations == 1 ? "" : "s",
                     evaluations == 1 ? " (both scales are 1: guidance is off)" : "");
}

int run(Options o, const example::Interrupt& interrupt) {
  const auto& r = o.run;
  example::check_folders({&r.out, &o.compare, &o.save_latents});
  const auto photo = ip2p::read_image(o.image, {.apply_exif = !o.ignore_exif});
  const auto numerics = r.numerics_policy();
  at::Tensor given;
  if (!o.latents.empty()) given = read_latents(o.latents);

  const auto begin = example::Clock::now();
  const auto model = example::open_model(o.model);
  complete(o, model.files.settings());
  const auto size = ip2p::edit_size(photo.width, photo.height, o.resolution, numerics);
  fmt::print("photo: {}, {}x{}, edited at {}x{}\n", o.image.string(), photo.width, photo.height, size.width,
             size.height);
  const auto schedule = example::schedule_of(r, model.scheduler);
  const auto sampler = ip2p::AnySampler::named(*r.sampler);
  const ip2p::DualGuidance guidance{.image_scale = *o.image_scale, .text_scale = *r.text_scale};
  example::report_prompt(model.tokenizer, "prompt", o.prompt);
  if (!r.negative_prompt.empty()) example::report_prompt(model.tokenizer, "negative prompt", r.negative_prompt);
  fmt::print("{} steps of {} over {}; {}\n", *r.steps, sampler.name(), schedule.name(), describe_guidance(guidance));
  std::fflush(stdout);

  ip2p::EditPipeline edit{model.text_encoder(), model.codec(), model.network<ip2p::UNet>(), sampler, guidance,
                          model.scheduler};
  edit.branches_at_once = model.branches_at_once();
  const double load_seconds = example::seconds_since(begin);

  ip2p::EditOptions options{.steps = *r.steps,
                            .seed = r.seed,
                            .negative_prompt = r.negative_prompt,
                            .resolution = o.resolution,
                            .numerics = numerics,
                            .latents = given};
  ip2p::TorchNoise noise(r.seed);
  const auto edit_begin = example::Clock::now();
  const auto before = edit.prepare({&photo, 1}, options);
  at::Tensor latents;
  {
    example::ProgressBar bar(stderr);
    options.hooks = example::watched(bar, interrupt);
    latents = edit.sample(before, {&o.prompt, 1}, options, schedule, noise).to(at::kCPU);
  }
  const auto after = edit.decode(latents, numerics).front();
  const double edit_seconds = example::seconds_since(edit_begin);
  if (interrupt.token().stop_requested()) throw ip2p::Cancelled("cancelled before the picture was written");

  example::Outputs outputs;
  if (!o.save_latents.empty()) {
    outputs.add(o.save_latents, [&] {
      const auto start = given.defined() ? given : ip2p::TorchNoise(r.seed).normal(latents.sizes(), 0);
      ip2p::write_safetensors(o.save_latents, {{"latents", latents.contiguous()}, {"start_noise", start.contiguous()}},
                              {{"seed", std::to_string(r.seed)},
                               {"steps", std::to_string(*r.steps)},
                               {"sampler", std::string(sampler.name())},
                               {"schedule", std::string(schedule.name())},
                               {"numerics", r.numerics},
                               {"scaling_factor", fmt::format("{}", edit.codec().scaling_factor())}});
    });
  }
  if (!o.compare.empty()) {
    outputs.add(o.compare, [&] {
      auto pictures = ip2p::tensor_to_images(before, ip2p::Numerics::diffusers);
      pictures.push_back(after);
      ip2p::write_image(o.compare, example::side_by_side(pictures), r.quality);
    });
  }
  outputs.add(r.out, [&] { ip2p::write_image(r.out, after, r.quality); });
  outputs.keep();

  fmt::print("time: {:.1f} s to load, {:.1f} s to edit\n", load_seconds, edit_seconds);
  example::report_memory(model.load.device);
  if (!o.save_latents.empty()) fmt::print("latents: {}\n", o.save_latents.string());
  if (!o.compare.empty()) fmt::print("side by side: {}\n", o.compare.string());
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace
}  // namespace edit_image

int main(int argc, char** argv) {
  CLI::App app{"Edits a photograph by a written instruction (InstructPix2Pix)."};
  edit_image::Options options;
  edit_image::add_options(app, options);
  return example::run_program("edit_image", app, argc, argv,
                              [&](const example::Interrupt& interrupt) { return edit_image::run(options, interrupt); });
}
