// Draws pairs of pictures for pairs of captions and keeps those that CLIP rates well: the middle part of
// InstructPix2Pix's data engine. Any number of processes, on any number of machines, work together through one shared
// folder.
//
//   make_pairs --triplets triplets.jsonl --model stable-diffusion-v1-5 --clip clip-vit-large-patch14 --out dataset

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/file_text.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/language/triplets.hpp"
#include "ip2p/parallel/device_for.hpp"
#include "ip2p/parallel/environment.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/vision/clip.hpp"
#include "options.hpp"
#include "pair_maker.hpp"
#include "support/clip.hpp"
#include "support/contents.hpp"
#include "support/model.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/run_record.hpp"

namespace {

namespace fs = std::filesystem;
using make_pairs::Options;

/// Fails before models are loaded. A folder is to be made, but not its parents: on a machine where shared storage is
/// not mounted they are missing.
void check_parent(const fs::path& folder) {
  const auto path = folder.has_filename() ? folder : folder.parent_path();  // "set/" as "set"
  std::error_code problem;
  if (!fs::is_directory(path, problem)) {
    ip2p::require(!fs::exists(path, problem), "{}: expected a folder to write into, found a file", path.string());
    const auto parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
    ip2p::require(fs::is_directory(parent, problem),
                  "{}: expected a folder to make '{}' in, found none: is the storage mounted?", parent.string(),
                  path.filename().string());
  }
}

void check_writable(const fs::path& path) {
  const int code = access(path.c_str(), W_OK | X_OK) == 0 ? 0 : errno;
  ip2p::require(code == 0, "cannot write into the folder '{}': {}", path.string(), ip2p::detail::errno_text(code));
}

/// What the set depends on: the options, and what the files hold, wherever they are.
nlohmann::json settings_of(const Options& o, const ip2p::ModelFiles& clip) {
  auto settings = o.settings();
  settings.update(example::computing_settings(o.model));
  // What changes only rounding may differ between machines.
  for (const char* name : {"--low-memory", "--tf32", "--direct-convolution"}) settings.erase(name);
  settings["--triplets"] = example::content_setting(o.triplets, example::file_digest(o.triplets));
  settings["--model"] = example::content_setting(o.model.model, example::model_digest(example::model_files(o.model)));
  settings["--clip"] = example::content_setting(o.clip, example::model_digest(clip));
  return settings;
}

/// Names in a folder of the ledger but those of files that are being written.
std::int64_t entries_in(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  return std::ranges::count_if(ip2p::detail::folder_entries(folder),
                               [](const auto& entry) { return !entry.path().filename().string().starts_with('.'); });
}

/// The published algorithm, whatever the model recommends for pictures by themselves.
ip2p::TextToImage text_to_image(const Options& o, const ip2p::OpenedModel& model) {
  auto codec = model.codec();
  if (model.options().dtype == at::kHalf) {
    // Some published codecs overflow in fp16: every call would be made twice.
    auto wide = model.options();
    wide.dtype = at::kFloat;
    codec = ip2p::OpenedModel::open(model.path(), wide).codec();
  }
  ip2p::TextToImage pipeline{model.text_encoder(), codec, model.network(), model.diffusion(), ip2p::EulerAncestral{}};
  pipeline.branches_at_once = model.options().low_memory ? 1 : 0;
  if (!o.schedule.empty()) pipeline.diffusion.schedule = ip2p::AnySchedule::named(o.schedule, model.scheduler());
  return pipeline;
}

int run(Options o, const example::Interrupt& interrupt) {
  for (const auto* path : {&o.out, &o.sheets}) {
    if (!path->empty()) check_parent(*path);
  }
  const example::OutputFolder out(o.out);
  check_writable(o.out);
  std::optional<example::OutputFolder> sheets;
  if (!o.sheets.empty()) {
    sheets.emplace(o.sheets);
    check_writable(o.sheets);
  }
  const auto triplets = ip2p::read_triplets(o.triplets);
  ip2p::require(!triplets.empty(), "{}: expected triplets, found none", o.triplets.string());
  const auto place = ip2p::place_in_environment();
  o.model.device = ip2p::device_for(o.model.device, place).str();
  const auto model = example::open_model(o.model);
  auto pipeline = text_to_image(o, model);
  const auto clip_files = example::clip_files(o.clip);
  const auto clip = example::open_clip(clip_files, *model.options().device);
  const auto ledger = o.out / ".ledger";
  const example::OutputFolder ledger_folder(ledger);
  example::RunRecord record(ledger / "settings.json", settings_of(o, clip_files),
                            [&] { return entries_in(ledger / "done") + entries_in(ledger / "claims") > 0; });
  record.agree(o.change);
  record.begin(entries_in(ledger / "done"));
  make_pairs::PairMaker maker(o, record.json(), triplets, model, pipeline, clip, place, interrupt.token());
  return maker();
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "make_pairs", "Draws pairs of pictures for pairs of captions and keeps those that CLIP rates well.",
      [&](CLI::App& app) { make_pairs::add_options(app, o); },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
