#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/copy_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/train/contrastive_loss.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/vision/clip.hpp"
#include "retrieval.hpp"
#include "scenes.hpp"
#include "support/clip.hpp"
#include "support/contents.hpp"
#include "support/loss_plot.hpp"
#include "training.hpp"
#include "training_run.hpp"
#include "write_scenes.hpp"

namespace small_world {

int train_clip(const ClipSettings& o, const example::Interrupt& interrupt) {
  auto record =
      record_of(o, {{"--scenes", example::content_setting(o.scenes, scenes_digest(o.scenes))},
                    {"--tokenizer", example::content_setting(o.tokenizer, example::folder_digest(o.tokenizer))}});
  if (is_complete(o, record, o.out / "clip")) return 0;
  const auto world_side = World::open(o.scenes).side();
  const auto set = CaptionedPictures::read(o.scenes / "training", interrupt);
  const auto tokenizer = ip2p::BpeTokenizer::open(o.tokenizer);
  ip2p::ClipConfig config;
  config.text = {.vocab_size = tokenizer.vocabulary_size(),
                 .hidden_size = o.width,
                 .intermediate_size = 4 * o.width,
                 .num_hidden_layers = o.text_layers,
                 .num_attention_heads = std::max<std::int64_t>(1, o.width / 32),
                 .max_position_embeddings = tokenizer.max_length()};
  config.vision = {.hidden_size = o.width,
                   .intermediate_size = 4 * o.width,
                   .num_hidden_layers = o.vision_layers,
                   .num_attention_heads = std::max<std::int64_t>(1, o.width / 32),
                   .image_size = world_side,
                   .patch_size = o.patch};
  config.projection_dim = o.width;
  config.eos_token_id = tokenizer.encode("").ids.at(1);
  ip2p::ClipModel model(config);
  model.initialise(o.seed);

  struct Source {
    const CaptionedPictures& set;
    std::int64_t side;
    [[nodiscard]] std::int64_t size() const { return std::ssize(set.pictures); }
    ip2p::CaptionedPixels get(std::int64_t i, ip2p::SampleRandom&) const {
      const auto index = static_cast<std::size_t>(i);
      return {ip2p::clip_pixels({&set.pictures[index], 1}, side)[0], set.captions[index]};
    }
  } source{set, world_side};
  const ip2p::ContrastiveLoss loss(model, tokenizer, source, {.batch = o.batch, .seed = o.seed});
  ip2p::Trainer run(ip2p::Parameters().add(model), loss, rate_of(o), options_of(o));
  const auto lock = begin(o, run, record);
  fmt::print("CLIP of {:.2f} M values on {} pictures\n", static_cast<double>(run.parameters().elements()) / 1e6,
             set.pictures.size());
  if (!run.run(o.steps, TrainingReport(run.step(), o.steps), interrupt.token())) return stopped(run.step());
  run.swap_average();
  ip2p::save_component(model, o.out);
  for (const auto& entry : ip2p::detail::folder_entries(o.tokenizer)) {
    if (!entry.is_regular_file() || entry.path().filename() == "config.json") continue;
    ip2p::copy_file_atomically(entry.path(), o.out / "clip" / entry.path().filename());
  }
  example::plot_loss(o.out / "loss.png", run.curve().points());

  const auto clip = example::open_clip(o.out / "clip");
  nlohmann::json report;
  report["seconds"] = run.curve().points().empty() ? 0.0 : run.curve().points().back().seconds;
  const auto unseen = CaptionedPictures::read(o.scenes / "held_out", interrupt);
  report["held_out"] = retrieval(image_features(clip, unseen.pictures), clip.text_features(unseen.captions));
  ip2p::write_json(o.out / "report.json", report);
  record.finish(run.step());
  fmt::print("{}\n{}\n", report["held_out"].dump(), (o.out / "clip").string());
  return 0;
}

}  // namespace small_world
