#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/train/zero_branches.hpp"
#include "ip2p/unet/unet.hpp"
#include "ip2p/vision/clip.hpp"
#include "scenes.hpp"
#include "support/contents.hpp"
#include "support/loss_plot.hpp"
#include "support/progress_bar.hpp"
#include "training.hpp"
#include "training_run.hpp"
#include "write_scenes.hpp"

namespace small_world {
namespace {

/// Scenes as latents with their captions: what a text-to-image model is trained on. Satisfies `ip2p::PairSource`.
class SceneLatents {
 public:
  /// \throws Cancelled on a signal
  SceneLatents(const ip2p::AnyCodec& codec, const CaptionedPictures& set, const example::Interrupt& interrupt)
      : captions_(set.captions) {
    example::ProgressBar bar(stderr, "batch of pictures encoded,");
    const at::NoGradGuard no_grad;
    const std::span<const ip2p::Image> pictures(set.pictures);
    for (std::size_t i = 0; i < pictures.size(); i += 32) {
      interrupt.check();
      const auto moments = codec.encode_moments(
          ip2p::images_to_tensor(pictures.subspan(i, std::min<std::size_t>(32, pictures.size() - i))));
      means_.push_back(moments.mean.clone());
      logvars_.push_back(moments.logvar.clone());
      bar({.index = std::ssize(means_) - 1, .count = (std::ssize(pictures) + 31) / 32});
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

int train_text_to_image(const TextToImageSettings& o, const example::Interrupt& interrupt) {
  const auto codec_files = ip2p::ModelFiles::open(o.codec);
  auto record =
      record_of(o, {{"--scenes", example::content_setting(o.scenes, scenes_digest(o.scenes))},
                    {"--clip", example::content_setting(o.clip, example::model_digest(ip2p::ModelFiles::open(o.clip)))},
                    {"--vae", example::content_setting(o.codec, example::model_digest(codec_files))}});
  if (is_complete(o, record, o.out / "model")) return 0;
  const auto side = World::open(o.scenes).side();
  const auto codec = ip2p::load_codec(codec_files);
  const SceneLatents latents(codec, CaptionedPictures::read(o.scenes / "training", interrupt), interrupt);
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
  const auto lock = begin(o, run, record);
  fmt::print("UNet and text encoder of {:.2f} M values on {} pictures\n",
             static_cast<double>(run.parameters().elements()) / 1e6, latents.size());
  if (!run.run(o.steps, TrainingReport(run.step(), o.steps), interrupt.token())) return stopped(run.step());
  run.swap_average();
  ip2p::ExportOptions written;
  written.scheduler.prediction = ip2p::PredictionType::sample;
  written.tokenizer = clip_files.tokenizer().vocab.parent_path();
  written.settings = {
      {"steps", 20}, {"resolution", side}, {"image_scale", 1.2}, {"text_scale", 2.0}, {"sampler", "euler"}};
  ip2p::with_codec_of(codec_files, [&]<class Codec>() {
    ip2p::save_model(o.out / "model", unet, ip2p::load<Codec>(codec_files, {.inference = false}), text, written);
  });
  example::plot_loss(o.out / "loss.png", run.curve().points());
  ip2p::write_json(
      o.out / "report.json",
      {{"seconds", run.curve().points().back().seconds}, {"updates", run.step()}, {"pictures", latents.size()}});
  record.finish(run.step());
  fmt::print("{}\n", (o.out / "model").string());
  return 0;
}

}  // namespace small_world
