// Edits a photograph with a colour layer and its opacity, trained on that photograph alone (Text2LIVE).
//
//   text2live --clip clip-vit-base-patch32 --image horse.jpg --source "a horse" --prompt "a golden horse"
//     --region horse --out golden.png --run golden-run --sample-every 100

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/core/device.hpp"
#include "ip2p/data/augment.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/text/prompt_syntax.hpp"
#include "ip2p/text2live/text2live.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "ip2p/vision/clip.hpp"
#include "support/clip.hpp"
#include "support/command_line.hpp"
#include "support/hub.hpp"
#include "support/labels.hpp"
#include "support/option_table.hpp"
#include "support/output_folder.hpp"
#include "support/picture_options.hpp"
#include "support/program.hpp"
#include "support/range.hpp"
#include "support/reporting.hpp"
#include "support/use_threads.hpp"

namespace {

struct Options {
  std::filesystem::path image, clip, tokenizer, out, compare;
  example::PictureOptions picture;
  ip2p::Text2LiveTexts texts;
  ip2p::Text2LiveOptions edit;
  std::int64_t size = 512, every = 0;
  std::string device = "auto";
  int threads = 0, quality = 95;
  bool full_size = false;
};

/// The photograph with its shorter side made `side`.
ip2p::Image scaled(const ip2p::Image& photo, std::int64_t side) {
  const auto size = ip2p::PairAugmentation::resized(photo.width, photo.height, side);
  return ip2p::resize(photo, size.width, size.height, ip2p::Filter::bilinear);
}

/// "golden.png" -> "golden_100.png"
std::filesystem::path numbered(const std::filesystem::path& path, std::int64_t step) {
  return path.parent_path() / fmt::format("{}_{}{}", path.stem().string(), step, path.extension().string());
}

int run(const Options& o, const example::Interrupt& interrupt) {
  example::use_threads(o.threads);
  example::check_folders({&o.out, &o.compare});
  const auto whole = example::read_photo(o.image, o.picture).image;
  const auto photo = scaled(whole, o.size);
  fmt::print("photo: {}, {}x{} -> {}x{}\n", o.image.string(), whole.width, whole.height, photo.width, photo.height);
  const auto files = example::clip_files(o.clip, o.tokenizer);
  const auto device = ip2p::parse_device(o.device);
  const auto clip = example::open_clip(files, device);
  fmt::print("CLIP: {}\ncomputes in fp32 on {}\n", files.describe(), device.str());
  for (const auto& [name, text] : {std::pair{"prompt", o.texts.edited}, std::pair{"source", o.texts.source},
                                   std::pair{"layer", o.texts.layer}, std::pair{"region", o.texts.region}}) {
    if (text.empty()) continue;
    const auto tokens = clip.tokenizer().encode(text);
    const auto limit = clip.tokenizer().max_length() - 2;
    example::report_prompt(name, tokens.count, limit, tokens.dropped);
    if (ip2p::has_prompt_marks(text)) {
      fmt::print(stderr, "warning: {}: text2live takes texts as they are, the marks in '{}' included\n", name, text);
    }
  }

  std::optional<example::OutputFolder> folder;
  std::optional<ip2p::FolderLock> lock;
  if (!o.edit.folder.empty()) {
    folder.emplace(o.edit.folder);
    lock.emplace(o.edit.folder);
  }
  ip2p::Text2Live<> edit(clip, photo, o.texts, o.edit);
  if (!o.edit.folder.empty() && edit.resume()) fmt::print("resumed at step {}\n", edit.step());
  const auto write = [&](const std::filesystem::path& path, const ip2p::EditLayer& layer) {
    ip2p::write_image(path, ip2p::picture_of(layer.over(edit.picture())), o.quality);
  };
  std::optional<double> loss;
  bool finished = true;
  {
    example::ProgressBar bar(stderr);
    const ip2p::Text2LiveHooks hooks{
        .on_step =
            [&](const ip2p::TrainingProgress& update) {
              loss = update.loss;
              bar({.index = update.step - 1, .count = o.edit.steps});
            },
        .picture_every = o.every,
        .on_picture = [&](std::int64_t step, const ip2p::EditLayer& layer) { write(numbered(o.out, step), layer); },
        .stop = interrupt.token()};
    finished = edit.run(hooks);
  }
  if (!finished) {
    fmt::print(stderr, "text2live: stopped after step {} of {}{}\n", edit.step(), o.edit.steps,
               o.edit.folder.empty() ? "; nothing was written" : "; run the same command again to continue");
    return 130;
  }
  const auto layer = edit.layer();
  const auto edited = ip2p::picture_of(layer.over(edit.picture()));
  ip2p::Image enlarged;
  if (o.full_size) {
    const ip2p::Box all{.right = static_cast<float>(whole.width), .bottom = static_cast<float>(whole.height)};
    enlarged = ip2p::BilateralGuidedUpsampling{}(whole, {photo, edited, all});
  }
  const auto& written = o.full_size ? enlarged : edited;
  example::Outputs outputs;
  outputs.add(o.out, [&] { ip2p::write_image(o.out, written, o.quality); });
  if (!o.compare.empty()) {
    const std::array pictures{photo, edited, ip2p::picture_of(layer.on_green_screen()), ip2p::picture_of(layer.alpha)};
    const std::array labels{std::string("photograph"), fmt::format("\"{}\"", o.texts.edited), std::string("layer"),
                            std::string("opacity")};
    outputs.add(o.compare, [&] { ip2p::write_image(o.compare, example::labelled_row(pictures, labels), o.quality); });
  }
  outputs.keep();
  auto& result = example::result();
  for (const auto& [name, text] : {std::pair{"prompt", o.texts.edited}, std::pair{"source", o.texts.source},
                                   std::pair{"layer", o.texts.layer}, std::pair{"region", o.texts.region}}) {
    result.setting(name, text);
  }
  result.setting("clip", o.clip.string());
  result.setting("steps", o.edit.steps);
  result.setting("seed", o.edit.seed);
  result.setting("resolution", o.size);
  result.setting("device", device.str());
  result.wrote(o.out, written);
  if (!o.compare.empty()) result.wrote(o.compare);
  if (loss) fmt::print("last loss: {:.4f}\n", *loss);  // none where all updates had been made
  fmt::print("mean opacity: {:.3f}\n", layer.alpha.mean().item<double>());
  example::report_memory(device);
  fmt::print("{}\n", o.out.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  return example::run_program(
      argc, argv, "text2live", "Edits a photograph with a layer trained on it, guided by CLIP (Text2LIVE).",
      [&](CLI::App& app) {
        app.add_option("--image", o.image, "photograph to edit")->type_name("FILE")->required();
        app.add_option("--clip", o.clip,
                       "CLIP model: a transformers folder, an OpenCLIP checkpoint or a name on the Hub")
            ->type_name("MODEL")
            ->required();
        example::add_download(app);
        app.add_option("--tokenizer", o.tokenizer, "folder with vocab.json and merges.txt, if the CLIP model has none")
            ->type_name("MODEL");
        app.add_option("--prompt", o.texts.edited, "what the edited picture should show")->required();
        app.add_option("--source", o.texts.source, "what the photograph shows")->required();
        app.add_option("--layer", o.texts.layer, "what the layer alone should show (default: the prompt)");
        app.add_option("--region", o.texts.region, "what to edit, as a word for that part of the photograph");
        app.add_option("--out", o.out, "picture to write (.png, .jpg, .webp)")
            ->type_name("FILE")
            ->required()
            ->check(example::picture_name);
        app.add_option("--compare", o.compare, "also write photograph, result, layer and opacity side by side")
            ->type_name("FILE")
            ->check(example::picture_name);
        app.add_option("--steps", o.edit.steps, "number of updates")
            ->capture_default_str()
            ->check(example::range(1, 1'000'000));
        app.add_option("--seed", o.edit.seed, "random seed")->capture_default_str()->check(example::whole_number);
        auto* size = app.add_option("--resolution", o.size, "length of the shorter side in pixels")
                         ->capture_default_str()
                         ->check(example::range(16, 4096));
        example::old_name(app, size, "--size");
        example::add_full_size(app, o.full_size);
        app.add_option("--run", o.edit.folder,
                       "folder for checkpoints and the loss curve; run the same command again to continue")
            ->type_name("FOLDER");
        app.add_flag_function(
               "--resume",
               [](std::int64_t) {
                 example::note("--resume is no longer needed: a run with a --run folder goes on by itself");
               })
            ->group("")
            ->configurable(false);
        app.add_option("--checkpoint-every", o.edit.checkpoint_every, "updates between checkpoints")
            ->capture_default_str()
            ->check(example::range(1, 1'000'000));
        auto* every = app.add_option("--sample-every", o.every,
                                     "also write the picture every N updates, as NAME_STEP beside --out")
                          ->check(example::range(1, 1'000'000));
        example::old_name(app, every, "--every");
        app.add_option("--views", o.edit.views.count, "views of a picture that CLIP judges per update")
            ->capture_default_str()
            ->check(example::range(1, 256));
        app.add_option("--bootstrap-steps", o.edit.weights.bootstrap_steps,
                       "number of updates during which --region is used")
            ->capture_default_str()
            ->check(example::range(0, 1'000'000));
        app.add_option("--scales", o.edit.network.scales,
                       "number of halvings in the network; use fewer for pictures under 190 pixels")
            ->capture_default_str()
            ->check(example::range(1, 16));
        app.add_option("--channels", o.edit.network.channels, "width of the network")
            ->capture_default_str()
            ->check(example::range(1, 4096));
        example::add_picture(app, o.picture);
        example::add_quality(app, o.quality);
        example::add_device(app, o.device);
        example::add_threads(app, o.threads);
        example::add_json(app);
      },
      [&](const example::Interrupt& interrupt) { return run(o, interrupt); });
}
