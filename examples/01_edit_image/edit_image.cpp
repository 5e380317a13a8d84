// Edits photographs by written instructions, with a published InstructPix2Pix model or one of your own.
//
//   edit_image --model instruct-pix2pix --image in.jpg --prompt "make it snowy" --out out.png
//   edit_image --model instruct-pix2pix --image photos --prompt "make it snowy" --out snowy

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "editing.hpp"
#include "ip2p/io/image.hpp"
#include "jobs.hpp"
#include "options.hpp"
#include "results.hpp"
#include "support/fit.hpp"
#include "support/model.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/reporting.hpp"
#include "support/standard_output.hpp"

namespace edit_image {
namespace {

/// Says where a run differs from the picture of --like in what its settings name without holding it.
void compare_with_like(const Options& o, const Editing& editing, const Job& job, const Photograph& photograph) {
  if (o.like.empty()) return;
  const auto read = [&](const ip2p::PictureSettings& settings) {
    return example::parsed_settings(settings, "edit_image", o.like.string());
  };
  const auto before = read(ip2p::read_settings(o.like).value_or(ip2p::PictureSettings{}));
  const auto now = read(editing.settings_of({&photograph, job.prompt, job.seed}));
  if (before.value("photo", "") != now.value("photo", "")) {
    fmt::print(stderr, "note: {} is of another photograph\n", o.like.string());
  }
  if (before["options"].value("model", "") != now["options"].value("model", "")) {
    fmt::print(stderr, "note: {} was made with the model '{}'\n", o.like.string(),
               before["options"].value("model", ""));
  }
}

/// Records what --json prints of the jobs.
void record(const Options& o, const std::vector<Job>& jobs) {
  std::vector<std::string> images;
  for (const auto& job : jobs) {
    if (images.empty() || images.back() != job.image.string()) images.push_back(job.image.string());
  }
  auto& report = example::result();
  images.size() == 1 ? report.setting("image", images.front()) : report.setting("image", images);
  o.prompts.size() == 1 ? report.setting("prompt", o.prompts.front()) : report.setting("prompt", o.prompts);
  report.setting("grid", o.grid);
}

int run(const Options& o, const example::Interrupt& interrupt) {
  std::optional<example::StandardOutput> standard_output;
  if (o.to_standard_output()) standard_output.emplace();
  const auto jobs = jobs_of(o);
  const bool one = names_one(o.out) || o.to_standard_output() || !o.grid.empty();
  ip2p::require(!one || jobs.size() == 1, "--grid: expected one photograph, found {}", jobs.size());
  const auto& job = jobs.front();
  if (one) {
    example::check_folders({&job.out, &o.compare, &o.save_latents});
  } else {
    check_results(jobs);
  }
  if (o.keep_alpha && !o.to_standard_output()) example::check_holds_alpha(job.out);
  // One photograph that cannot be read is known before the model is opened.
  std::optional<ip2p::Picture> picture;
  if (one) picture = example::read_photo(job.image, o.picture);
  Editing editing(o, interrupt);
  record(o, jobs);
  if (!one) {
    editing.report();
    example::record_run(editing.pipeline(), editing.run(), editing.settings());
    return make_all(editing, o, jobs, interrupt);
  }
  const auto photograph = editing.read(job.image, *std::move(picture));
  example::report_photo(photograph.path, photograph.fitted, o.full_size);
  compare_with_like(o, editing, job, photograph);
  editing.report();
  example::record_run(editing.pipeline(), editing.run(), editing.settings());
  auto* output = standard_output ? &*standard_output : nullptr;
  if (o.grid.empty()) {
    make_one(editing, o, job, photograph, output);
  } else {
    make_sheet(editing, o, job, photograph, output);
  }
  example::result().seconds("load", editing.load_seconds());
  example::result().seconds("edit", editing.edit_seconds());
  fmt::print("time: {:.1f} s to load, {:.1f} s to edit\n", editing.load_seconds(), editing.edit_seconds());
  example::report_memory(*editing.model().options().device);
  if (!o.save_latents.empty()) fmt::print("latents: {}\n", o.save_latents.string());
  if (o.comparing) {
    fmt::print("side by side: {}\n", (o.compare.empty() ? beside(job.out, "compare") : o.compare).string());
  }
  if (!job.out.empty()) fmt::print("{}\n", job.out.string());
  return 0;
}

}  // namespace
}  // namespace edit_image

int main(int argc, char** argv) {
  edit_image::Options options;
  return example::run_program(
      argc, argv, "edit_image", "Edits photographs by written instructions (InstructPix2Pix).",
      [&](CLI::App& app) { edit_image::add_options(app, options); },
      [&](const example::Interrupt& interrupt) { return edit_image::run(options, interrupt); });
}
