#include "training.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/contrastive_loss.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/train/zero_branches.hpp"
#include "ip2p/vision/clip.hpp"
#include "retrieval.hpp"
#include "scenes.hpp"
#include "support/clip.hpp"
#include "support/loss_plot.hpp"
#include "support/program.hpp"
#include "write_scenes.hpp"

namespace small_world {
namespace {

/// Prints a progress line at intervals.
class TrainingReport {
 public:
  explicit TrainingReport(std::int64_t steps) : steps_(steps) {}

  void operator()(const ip2p::TrainingProgress& progress) {
    sum_ += progress.loss;
    ++count_;
    if (progress.step % every() != 0 && progress.step != steps_) return;
    fmt::print("update {} of {}: loss {:.4f}, {:.0f} s\n", progress.step, steps_, sum_ / static_cast<double>(count_),
               progress.seconds);
    std::fflush(stdout);
    sum_ = 0;
    count_ = 0;
  }

 private:
  [[nodiscard]] std::int64_t every() const { return std::max<std::int64_t>(1, steps_ / 20); }

  std::int64_t steps_;
  double sum_ = 0;
  std::int64_t count_ = 0;
};

ip2p::WarmupCosine rate_of(const TrainingSettings& o) {
  return {o.rate, std::min<std::int64_t>(100, o.steps / 10), o.steps, 0.05};
}

ip2p::TrainingOptions options_of(const TrainingSettings& o) {
  ip2p::TrainingOptions options;
  options.folder = o.out / "training";
  options.clip_norm = 1.0;
  options.ema_decay = 0.995;
  return options;
}

template <class Run>
void report_resumption(Run& run) {
  std::vector<std::string> skipped;
  if (run.resume(&skipped)) fmt::print("resumed at update {}\n", run.step());
  for (const auto& line : skipped) fmt::print(stderr, "warning: {}\n", line);
}

int stopped(std::int64_t step) {
  fmt::print(stderr, "small_world: stopped at update {}; run the same command again to continue\n", step);
  return 130;
}

/// Scenes as latents with their captions: what a text-to-image model is trained on. Satisfies `ip2p::PairSource`.
class SceneLatents {
 public:
  SceneLatents(const ip2p::KlAutoencoder& codec, const CaptionedPictures& set) : captions_(set.captions) {
    const at::NoGradGuard no_grad;
    const std::span<const ip2p::Image> pictures(set.pictures);
    for (std::size_t i = 0; i < pictures.size(); i += 32) {
      const auto moments = codec.encode_moments(
          ip2p::images_to_tensor(pictures.subspan(i, std::min<std::size_t>(32, pictures.size() - i))));
      means_.push_back(moments.mean.clone());
      logvars_.push_back(moments.logvar.clone());
    }
  }

  [[nodiscard]] std::int64_t size() const { return std::ssize(captions_); }
  [[nodiscard]] ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom&) const {
    const auto part = static_cast<std::size_t>(i / 32);
    return {means_[part][i % 32], logvars_[part][i % 32], {}, captions_[static_cast<std::size_t>(i)]};
  }

 private:
  std::vector<at::Tensor> means_, logvars_;
  std::vector<std::string> captions_;
};
static_assert(ip2p::PairSource<SceneLatents>);

}  // namespace

int train_clip(const ClipSettings& o, const example::Interrupt& interrupt) {
  const auto world_side = World::open(o.scenes).side();
  const auto set = CaptionedPictures::read(o.scenes / "training");
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
  report_resumption(run);
  fmt::print("CLIP of {:.2f} M values on {} pictures\n", static_cast<double>(run.parameters().elements()) / 1e6,
             set.pictures.size());
  if (!run.run(o.steps, TrainingReport(o.steps), interrupt.token())) return stopped(run.step());
  run.swap_average();
  ip2p::save_component(model, o.out);
  for (const auto& entry : fs::directory_iterator(o.tokenizer)) {
    if (!entry.is_regular_file() || entry.path().filename() == "config.json") continue;
    fs::copy_file(entry.path(), o.out / "clip" / entry.path().filename(), fs::copy_options::overwrite_existing);
  }
  example::plot_loss(o.out / "loss.png", run.curve().points());

  const auto clip = example::open_clip(o.out / "clip");
  nlohmann::json report;
  report["seconds"] = run.curve().points().empty() ? 0.0 : run.curve().points().back().seconds;
  const auto unseen = CaptionedPictures::read(o.scenes / "held_out");
  report["held_out"] = retrieval(image_features(clip, unseen.pictures), clip.text_features(unseen.captions));
  ip2p::write_json(o.out / "report.json", report);
  fmt::print("{}\n{}\n", report["held_out"].dump(), (o.out / "clip").string());
  return 0;
}

int train_text_to_image(const TextToImageSettings& o, const example::Interrupt& interrupt) {
  const auto side = World::open(o.scenes).side();
  const auto codec_files = ip2p::ModelFiles::open(o.codec);
  const SceneLatents latents(ip2p::load<ip2p::KlAutoencoder>(codec_files),
                             CaptionedPictures::read(o.scenes / "training"));
  const auto codec = ip2p::load<ip2p::KlAutoencoder>(codec_files, {.inference = false});
  const auto clip_files = ip2p::ModelFiles::open(o.clip);
  const auto clip = ip2p::load<ip2p::Clip>(clip_files, {.inference = false});
  const ip2p::ClipTextModel text = clip.model().module().text;
  const ip2p::ClipTextEncoder encoder(clip.tokenizer(), text);

  ip2p::UNetConfig config;
  config.in_channels = codec.latent_channels();
  config.out_channels = codec.latent_channels();
  config.block_out_channels = o.channels;
  config.cross_attention.assign(o.channels.size(), true);
  config.layers_per_block = 1;
  config.cross_attention_dim = text.config().hidden_size;
  config.heads.clear();
  for (const auto channels : o.channels) config.heads.push_back(std::max<std::int64_t>(1, channels / 32));
  config.transformer_layers.assign(o.channels.size(), 1);
  config.norm_num_groups = 4;  // narrow groups would hide the colours of a picture from the layers behind them
  ip2p::UNet unet(config);
  ip2p::initialise(unet.module(), o.seed);
  ip2p::start_branches_at_zero(unet);

  // Few words and few pictures leave little to chance: the picture is the easier thing to predict than the noise.
  const ip2p::DiffusionLoss loss(unet, encoder, latents, ip2p::UniformTimesteps{}, ip2p::SamplePrediction{},
                                 {.batch = o.batch, .seed = o.seed, .scaling_factor = codec.scaling_factor()},
                                 ip2p::ConditioningDropout{.text = o.drop_text, .both = 0.0, .image = 0.0});
  ip2p::Trainer run(ip2p::Parameters().add(unet).add(text), loss, rate_of(o), options_of(o));
  report_resumption(run);
  fmt::print("UNet and text encoder of {:.2f} M values on {} pictures\n",
             static_cast<double>(run.parameters().elements()) / 1e6, latents.size());
  if (!run.run(o.steps, TrainingReport(o.steps), interrupt.token())) return stopped(run.step());
  run.swap_average();
  ip2p::ExportOptions written;
  written.scheduler.prediction = ip2p::PredictionType::sample;
  written.tokenizer = clip_files.tokenizer().vocab.parent_path();
  written.settings = {
      {"steps", 20}, {"resolution", side}, {"image_scale", 1.2}, {"text_scale", 2.0}, {"sampler", "euler"}};
  ip2p::save_model(o.out / "model", unet, codec, text, written);
  example::plot_loss(o.out / "loss.png", run.curve().points());
  ip2p::write_json(
      o.out / "report.json",
      {{"seconds", run.curve().points().back().seconds}, {"updates", run.step()}, {"pictures", latents.size()}});
  fmt::print("{}\n", (o.out / "model").string());
  return 0;
}

}  // namespace small_world
