#include "results.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "support/fit.hpp"
#include "support/labels.hpp"
#include "support/picture_options.hpp"
#include "support/picture_settings.hpp"
#include "support/program.hpp"
#include "support/reporting.hpp"

namespace edit_image {
namespace {

namespace fs = std::filesystem;

/// Writes a picture with its settings, to standard output if `path` is empty.
void write(const Options& o, const fs::path& path, const ip2p::Picture& picture, const ip2p::PictureSettings& settings,
           example::StandardOutput* standard_output) {
  const auto written = o.no_settings ? ip2p::PictureSettings{} : settings;
  if (!path.empty()) return ip2p::write_picture(path, picture, written, o.run.quality);
  standard_output->write(ip2p::with_settings(ip2p::encode_picture(picture, ip2p::ImageFormat::png), written));
}

/// Where the comparison goes; empty: nowhere.
fs::path comparison_of(const Options& o, const Job& job) {
  if (!o.comparing) return {};
  return o.compare.empty() ? beside(job.out, "compare") : o.compare;
}

fs::path preview_of(const Options& o, const Job& job) {
  return o.preview > 0 ? beside(job.out, "preview") : fs::path();
}

/// Writes all that belongs to a result, or nothing. \param i its number in the batch
void write_result(const Editing& editing, const Options& o, const Job& job, const Task& task, const Edited& edited,
                  std::size_t i, example::StandardOutput* standard_output) {
  const auto& photograph = *task.photograph;
  const auto& after = edited.pictures[i];
  ip2p::make_folder(job.out.parent_path());
  example::Outputs outputs;
  if (!o.save_latents.empty()) {
    outputs.add(o.save_latents, [&] {
      const auto& edit = editing.pipeline();
      ip2p::write_safetensors(
          o.save_latents, {{"latents", edited.latents.contiguous()}, {"start_noise", edited.start_noise.contiguous()}},
          {{"seed", std::to_string(task.seed)},
           {"noise", editing.run().noise},
           {"steps", std::to_string(editing.steps())},
           {"sampler", std::string(edit.sampler.name())},
           {"schedule", std::string(edit.diffusion.schedule.name())},
           {"numerics", editing.run().numerics},
           {"scaling_factor", fmt::format("{}", edit.codec().scaling_factor())}});
    });
  }
  if (const auto path = comparison_of(o, job); !path.empty()) {
    outputs.add(path, [&] {
      const std::array pictures{editing.before(photograph), after};
      const std::array labels{std::string("photograph"), fmt::format("\"{}\", seed {}", task.prompt, task.seed)};
      ip2p::write_image(path, example::labelled_row(pictures, labels), o.run.quality);
    });
  }
  const auto picture = o.keep_alpha ? example::with_alpha_of(photograph.picture, after, editing.fit(), o.picture)
                                    : ip2p::Picture{after, {}};
  if (job.out.empty()) {
    write(o, job.out, picture, editing.settings_of(task), standard_output);
  } else {
    outputs.add(job.out, [&] { write(o, job.out, picture, editing.settings_of(task), standard_output); });
  }
  outputs.keep();
  auto& report = example::result();
  if (!job.out.empty()) report.wrote(job.out, after);
  if (const auto path = comparison_of(o, job); !path.empty()) report.wrote(path);
  if (!o.save_latents.empty()) report.wrote(o.save_latents);
}

/// What is wrong with a result that is there: empty if its settings are those that it would be made with now.
std::string problem_of(const fs::path& out, const ip2p::PictureSettings& now) {
  const auto found = ip2p::read_settings(out).value_or(ip2p::PictureSettings{});
  const auto before = example::parsed_settings(found, "edit_image", out.string());
  const auto different = example::difference(before, example::parsed_settings(now, "edit_image", out.string()));
  return different.empty() ? std::string() : fmt::format("{}: was made {}", out.string(), different);
}

/// Removes what --preview left behind, unless the result is there.
class Previews {
 public:
  Previews() = default;
  Previews(const Previews&) = delete;
  Previews& operator=(const Previews&) = delete;
  ~Previews() {
    std::error_code ignored;
    for (const auto& path : paths_) fs::remove(path, ignored);
  }
  fs::path add(fs::path path) {
    if (!path.empty()) paths_.push_back(path);
    return path;
  }
  void keep() { paths_.clear(); }

 private:
  std::vector<fs::path> paths_;
};

/// A job whose photograph was read.
struct ReadJob {
  const Job* job;
  std::shared_ptr<const Photograph> photograph;
};

/// The results of a run of many.
class Many {
 public:
  Many(Editing& editing, const Options& o, std::size_t count) : editing_(editing), o_(o), count_(count) {}

  /// Adds a job; a full batch is made.
  void add(ReadJob job) {
    const auto& image = job.photograph->fitted.image;
    auto& batch = waiting_[{image.width, image.height}];
    batch.push_back(std::move(job));
    if (batch.size() >= static_cast<std::size_t>(o_.batch)) make(std::exchange(batch, {}));
  }

  /// Makes what waits for others of its size.
  void finish() {
    for (auto& [size, batch] : waiting_) make(std::exchange(batch, {}));
  }

  void skip() { ++skipped_; }
  void fail(std::string_view problem, std::size_t results = 1) {
    failed_ += results;
    std::fflush(stdout);
    fmt::print(stderr, "edit_image: {}\n", problem);
  }

  /// Prints the summary. \return the exit status
  int report(bool stopped) const {
    auto text = fmt::format("{} of {} results made", made_, count_);
    if (made_ > 0) {
      text += fmt::format(" in {:.1f} s ({:.1f} s each)", editing_.edit_seconds(),
                          editing_.edit_seconds() / static_cast<double>(made_));
    }
    if (skipped_ > 0) text += fmt::format(", {} were there already", skipped_);
    if (failed_ > 0) text += fmt::format(", {} failed", failed_);
    if (stopped) text += "; stopped, run the same command again to go on";
    fmt::print("{}\n", text);
    return stopped ? 130 : failed_ > 0 ? 1 : 0;
  }

 private:
  void make(const std::vector<ReadJob>& batch) {
    if (batch.empty()) return;
    try {
      ip2p::with_memory_advice([&] { edit(batch); });
    } catch (const ip2p::Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      // One of several may be to blame.
      if (batch.size() == 1) return fail(fmt::format("{}: {}", batch.front().job->image.string(), error.what()));
      for (const auto& job : batch) make({job});
    }
  }

  void edit(const std::vector<ReadJob>& batch) {
    Previews previews;
    std::vector<Task> tasks;
    for (const auto& [job, photograph] : batch) {
      if (o_.preview > 0) ip2p::make_folder(job->out.parent_path());
      tasks.push_back({photograph.get(), job->prompt, job->seed, previews.add(preview_of(o_, *job))});
    }
    const auto edited = editing_.edit(tasks);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      write_result(editing_, o_, *batch[i].job, tasks[i], edited, i, nullptr);
      ++made_;
      fmt::print("{}\n", batch[i].job->out.string());
      std::fflush(stdout);
    }
    previews.keep();
  }

  Editing& editing_;
  const Options& o_;
  std::size_t count_, made_ = 0, skipped_ = 0, failed_ = 0;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<ReadJob>> waiting_;
};

}  // namespace

void make_one(Editing& editing, const Options& o, const Job& job, const Photograph& photograph,
              example::StandardOutput* standard_output) {
  Previews previews;
  const Task task{&photograph, job.prompt, job.seed, previews.add(preview_of(o, job))};
  write_result(editing, o, job, task, editing.edit({task}), 0, standard_output);
  previews.keep();
}

void make_sheet(Editing& editing, const Options& o, const Job& job, const Photograph& photograph,
                example::StandardOutput* standard_output) {
  const auto sheet = draw_grid(editing, photograph, job.prompt, axes_of(o.grid));
  ip2p::make_folder(job.out.parent_path());
  write(o, job.out, {sheet, {}}, editing.settings_of({&photograph, job.prompt, job.seed}, o.grid), standard_output);
  if (!job.out.empty()) example::result().wrote(job.out, sheet);
}

int make_all(Editing& editing, const Options& o, const std::vector<Job>& jobs, const example::Interrupt& interrupt) {
  Many many(editing, o, jobs.size());
  bool stopped = false;
  try {
    for (std::size_t first = 0, end = 0; first < jobs.size(); first = end) {
      // The jobs of one photograph stand together.
      while (end < jobs.size() && jobs[end].image == jobs[first].image) ++end;
      if (interrupt.token().stop_requested()) throw ip2p::Cancelled("cancelled");
      std::shared_ptr<const Photograph> photograph;
      try {
        photograph = ip2p::with_memory_advice(
            [&] { return std::make_shared<const Photograph>(editing.read(jobs[first].image)); });
      } catch (const std::exception& error) {
        many.fail(error.what(), end - first);
        continue;
      }
      example::report_photo(photograph->path, photograph->fitted, o.full_size);
      for (auto i = first; i < end; ++i) {
        std::error_code ignored;
        if (!o.overwrite && fs::exists(jobs[i].out, ignored)) {
          std::string problem;
          try {
            problem = problem_of(jobs[i].out, editing.settings_of({photograph.get(), jobs[i].prompt, jobs[i].seed}));
          } catch (const ip2p::Error& error) {
            problem = error.what();
          }
          problem.empty() ? many.skip() : many.fail(problem + "; --overwrite makes it again");
          continue;
        }
        many.add({&jobs[i], photograph});
      }
    }
    many.finish();
  } catch (const ip2p::Cancelled&) {
    stopped = true;
  }
  return many.report(stopped);
}

}  // namespace edit_image
