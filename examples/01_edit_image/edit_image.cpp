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
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/image.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "options.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/pictures.hpp"
#include "support/program.hpp"
#include "support/reporting.hpp"

namespace edit_image {
namespace {

using ip2p::require;

/// Reads the start noise of --latents.
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

/// Network evaluations per step; branches of zero weight are skipped.
std::string describe_evaluations(const ip2p::DualGuidance& guidance) {
  int evaluations = 0;
  for (const double weight : guidance.weights({})) evaluations += weight != 0;
  return fmt::format("{} evaluation{} per step{}", evaluations, evaluations == 1 ? "" : "s",
                     evaluations == 1 ? " (both scales are 1: guidance is off)" : "");
}

int run(Options o, const example::Interrupt& interrupt) {
  o.prompt = example::take_loras(o.prompt, o.model);
  const auto& r = o.run;
  example::check_folders({&r.out, &o.compare, &o.save_latents});
  if (o.keep_alpha) example::check_holds_alpha(r.out);
  const auto picture = example::read_photo(o.image, o.picture);
  const auto& photo = picture.image;
  auto settings = example::settings_of(r);
  if (!o.latents.empty()) settings.latents = read_latents(o.latents);

  const auto begin = example::Clock::now();
  const auto model = example::open_model(o.model, example::numerics_of(r));
  auto edit = model.editor();
  example::configure(edit, r, model);
  const double load_seconds = example::seconds_since(begin);
  settings = edit.completed(settings);
  const auto size = ip2p::edit_size(photo.width, photo.height, settings.resolution, *settings.numerics);
  fmt::print("photo: {}, {}x{}, edited at {}x{}{}\n", o.image.string(), photo.width, photo.height, size.width,
             size.height, o.full_size ? " and brought back to full size" : "");
  example::report_prompts(model, o.prompt, r);
  fmt::print("{}; {}\n", example::describe_run(edit, r, model, example::resolution_of(edit, r)),
             describe_evaluations(edit.guidance));
  std::fflush(stdout);

  const auto edit_begin = example::Clock::now();
  ip2p::PipelineResult result;
  {
    example::ProgressBar bar(stderr);
    settings.hooks = example::watched(bar, interrupt);
    auto noise = example::noise_of(r);
    result = edit.run({&photo, 1}, {&o.prompt, 1}, settings, noise);
  }
  const auto after =
      o.full_size ? ip2p::at_full_size(edit, photo, result.images.front(), settings) : result.images.front();
  const double edit_seconds = example::seconds_since(edit_begin);
  interrupt.check();

  example::Outputs outputs;
  if (!o.save_latents.empty()) {
    outputs.add(o.save_latents, [&] {
      auto noise = example::noise_of(r);
      const auto start = edit.start_noise(settings, result.latents.sizes(), noise);
      ip2p::write_safetensors(o.save_latents,
                              {{"latents", result.latents.contiguous()}, {"start_noise", start.contiguous()}},
                              {{"seed", std::to_string(r.seed)},
                               {"noise", r.noise},
                               {"steps", std::to_string(*settings.steps)},
                               {"sampler", std::string(edit.sampler.name())},
                               {"schedule", std::string(edit.diffusion.schedule.name())},
                               {"numerics", r.numerics},
                               {"scaling_factor", fmt::format("{}", edit.codec().scaling_factor())}});
    });
  }
  if (!o.compare.empty()) {
    outputs.add(o.compare, [&] {
      const auto before =
          o.full_size ? photo
                      : ip2p::tensor_to_images(edit.prepare({&photo, 1}, settings), ip2p::Rounding::nearest).front();
      ip2p::write_image(o.compare, example::side_by_side(std::vector{before, after}), r.quality);
    });
  }
  outputs.add(r.out, [&] {
    const auto written =
        o.keep_alpha ? example::with_alpha_of(picture, after, settings.resolution, *settings.numerics, o.picture)
                     : ip2p::Picture{after, {}};
    ip2p::write_picture(r.out, written, r.quality);
  });
  outputs.keep();

  auto& report = example::result();
  report.setting("image", o.image.string());
  report.setting("prompt", o.prompt);
  example::record_run(edit, r, settings);
  report.seconds("load", load_seconds);
  report.seconds("edit", edit_seconds);
  report.wrote(r.out, after);
  if (!o.compare.empty()) report.wrote(o.compare);
  if (!o.save_latents.empty()) report.wrote(o.save_latents);
  fmt::print("time: {:.1f} s to load, {:.1f} s to edit\n", load_seconds, edit_seconds);
  example::report_memory(*model.options().device);
  if (!o.save_latents.empty()) fmt::print("latents: {}\n", o.save_latents.string());
  if (!o.compare.empty()) fmt::print("side by side: {}\n", o.compare.string());
  fmt::print("{}\n", r.out.string());
  return 0;
}

}  // namespace
}  // namespace edit_image

int main(int argc, char** argv) {
  edit_image::Options options;
  return example::run_program(
      argc, argv, "edit_image", "Edits a photograph by a written instruction (InstructPix2Pix).",
      [&](CLI::App& app) { edit_image::add_options(app, options); },
      [&](const example::Interrupt& interrupt) { return edit_image::run(options, interrupt); });
}
