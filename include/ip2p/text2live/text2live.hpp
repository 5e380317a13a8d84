#pragma once

/// \file
/// Text2LIVE: text-driven layered image editing (Bar-Tal et al. 2022), a baseline that trains a layer on one picture.

#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/io/sealed_json.hpp"
#include "ip2p/text2live/clip_guide.hpp"
#include "ip2p/text2live/edit_layer.hpp"
#include "ip2p/text2live/generator.hpp"
#include "ip2p/text2live/objective.hpp"
#include "ip2p/text2live/picture_crops.hpp"
#include "ip2p/train/exponential_decay.hpp"
#include "ip2p/train/madgrad.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/vision/clip.hpp"

namespace ip2p {

/// Options of one edit. The defaults are the published ones.
struct Text2LiveOptions {
  std::int64_t steps = 1000;            ///< Updates, >= 1.
  std::uint64_t seed = 42;              ///< Determines initial weights, examples and views.
  std::int64_t whole_every = 75;        ///< The whole picture is added every so many updates; >= 1.
  EditLayerConfig network{};            ///< Shape of the network that draws the layer.
  Text2LiveWeights weights{};           ///< What each loss counts.
  PictureCrops crops{};                 ///< How examples are made of the picture.
  ClipViews views{};                    ///< How CLIP is shown pictures.
  std::filesystem::path folder{};       ///< Checkpoints and loss curve; empty keeps everything in memory.
  std::int64_t checkpoint_every = 100;  ///< Updates between checkpoints, >= 1.

  /// \throws Error for values out of range
  void validate() const {
    require(steps >= 1, "Text2Live: steps: expected at least 1, found {}", steps);
    require(whole_every >= 1, "Text2Live: whole_every: expected at least 1, found {}", whole_every);
    network.validate();
    weights.validate();
    crops.validate();
    views.validate();
  }
};

/// Callbacks and cancellation of a run.
struct Text2LiveHooks {
  std::function<void(const TrainingProgress&)> on_step{};  ///< After each update.
  std::int64_t picture_every = 0;                          ///< Updates between calls of `on_picture`; 0: never.
  std::function<void(std::int64_t, const EditLayer&)> on_picture{};  ///< With the updates made and the current layer.
  std::stop_token stop{};                                            ///< Checked before each update.
};

/// One edit of one picture. An update depends only on the seed, its number and the weights, so a resumed run ends with
/// the same bits as an uninterrupted one (on a CPU, with the same number of threads).
///
/// \code
/// ip2p::Text2Live<> edit(clip, picture, {.edited = "a golden horse", .source = "a horse", .region = "horse"});
/// edit.run();
/// ip2p::write_image("golden.png", edit.edited());
/// \endcode
template <OptimiserPolicy Optimiser = Madgrad, LearningRatePolicy Rate = ExponentialDecay>
class Text2Live {
 public:
  /// \param clip with fp32 weights; everything is computed on its device
  /// \param picture at the size of the result, usually 512 pixels along its shorter side
  /// \throws Error for options out of range, empty texts, and a picture too small for the network's scales
  Text2Live(Clip clip, Image picture, Text2LiveTexts texts, Text2LiveOptions options = {}, Rate rate = {},
            const typename Optimiser::Options& optimiser = {})
      : options_((options.validate(), std::move(options))),
        picture_(std::move(picture)),
        texts_(std::move(texts)),
        objective_(ClipGuide(std::move(clip)), texts_, options_.weights, options_.views),
        whole_(unit_picture(picture_).to(objective_.guide().device())),
        network_(options_.network),
        run_(
            parameters(), [this](std::int64_t update) { return terms(update).total; }, std::move(rate),
            training(optimiser)) {
    const auto least = options_.network.shortest_side();
    const auto found = options_.crops.shortest_side(size_of(whole_));
    require(found >= least,
            "Text2Live: picture: expected a shorter side whose smallest crop has at least {} pixels for {} scales, "
            "found {} pixels of {}x{}",
            least, options_.network.scales, found, picture_.width, picture_.height);
  }

  Text2Live(const Text2Live&) = delete;
  Text2Live& operator=(const Text2Live&) = delete;

  /// Updates made.
  [[nodiscard]] std::int64_t step() const { return run_.step(); }
  /// The network that draws the layer.
  [[nodiscard]] const EditLayerNetwork& network() const { return network_; }
  /// The losses.
  [[nodiscard]] const Text2LiveObjective& objective() const { return objective_; }

  /// The losses of update `step` (0-based), with their graph to the network's weights.
  [[nodiscard]] Text2LiveTerms terms(std::int64_t step) const {
    SampleRandom random(options_.seed, static_cast<std::uint64_t>(step), 0);
    const auto drawn = options_.crops.draw(size_of(whole_), random);
    std::vector<at::Tensor> pictures{detail::to_device(PictureCrops::apply(picture_, drawn), whole_.device())};
    if (step % options_.whole_every == 0) pictures.push_back(whole_);
    std::vector<EditLayer> layers;
    std::vector<Size> sizes;
    for (const auto& picture : pictures) {
      layers.push_back(network_(picture));
      sizes.push_back(size_of(picture));
    }
    return objective_(pictures, layers, objective_.draw(sizes, random), step);
  }

  /// Resumes from the newest intact checkpoint in `options.folder`; false if there are no checkpoints.
  /// \throws Error when the folder belongs to another edit, or there are checkpoints but all are damaged
  bool resume() {
    const auto path = options_.folder / description_name;
    if (options_.folder.empty() || !std::filesystem::exists(path)) return false;
    std::string differing;
    try {
      differing = detail::differing_setting(description(), detail::parse_json(detail::file_text(path).value_or("")));
    } catch (const nlohmann::json::exception& error) {
      throw_error("Text2Live: '{}': expected the description of an edit, found {}", path.string(),
                  detail::json_fault(error));
    }
    require(differing.empty(), "Text2Live: '{}': {}; the folder belongs to another edit", path.string(), differing);
    return run_.resume();
  }

  /// Runs the remaining updates. \return whether all were made; false after a requested stop, which leaves a checkpoint
  /// \throws Error when the folder holds checkpoints and `resume()` was not called, when a checkpoint cannot be
  ///   written, and after ten consecutive non-finite losses
  bool run(const Text2LiveHooks& hooks = {}) {
    if (!options_.folder.empty()) {
      require(
          step() > 0 || CheckpointFolder(options_.folder).steps().empty(),
          "Text2Live: '{}': expected no checkpoints of another run, found some; resume it, or choose another folder",
          options_.folder.string());
      make_folder(options_.folder);
      const auto text = description().dump(2) + "\n";
      write_file_atomically(options_.folder / description_name, std::as_bytes(std::span(text)));
    }
    const auto on_step = [&](const TrainingProgress& progress) {
      if (hooks.on_step) hooks.on_step(progress);
      if (hooks.on_picture && hooks.picture_every > 0 && progress.step % hooks.picture_every == 0) {
        hooks.on_picture(progress.step, layer());
      }
    };
    return run_.run(options_.steps, on_step, hooks.stop);
  }

  /// The current layer of the whole picture, without a graph.
  [[nodiscard]] EditLayer layer() const {
    const at::NoGradGuard no_grad;
    return network_(whole_);
  }

  /// The picture composited with its layer.
  [[nodiscard]] Image edited() const { return picture_of(layer().over(whole_)); }

  /// The original picture, [1, 3, H, W] in [0, 1].
  [[nodiscard]] const at::Tensor& picture() const { return whole_; }

 private:
  static constexpr const char* description_name = "text2live.json";

  Parameters parameters() {
    network_.initialise(options_.seed);
    network_.to(whole_.device(), at::kFloat);
    return Parameters{}.add(network_.module(), "layer");
  }

  TrainingOptionsOf<Optimiser> training(const typename Optimiser::Options& optimiser) const {
    TrainingOptionsOf<Optimiser> training;
    training.folder = options_.folder;
    training.checkpoint_every = options_.checkpoint_every;
    training.optimiser = optimiser;
    training.ema_decay = 0.0;  // the last weights are the result
    return training;
  }

  /// Everything that distinguishes this edit from others.
  [[nodiscard]] nlohmann::json description() const {
    const auto& w = options_.weights;
    const auto& n = options_.network;
    const auto& v = options_.views;
    const auto& c = options_.crops;
    return {{"picture", detail::text_checksum(std::string(picture_.pixels.begin(), picture_.pixels.end()))},
            {"size", {picture_.width, picture_.height}},
            {"texts", {texts_.edited, texts_.source, texts_.layer, texts_.region}},
            {"seed", options_.seed},
            {"network", {n.scales, n.channels, n.skip_channels}},
            {"views",
             {v.count, v.least_cover, v.mirrored, v.affine, v.perspective, v.colours, v.grey, v.degrees, v.shift,
              v.distortion, v.spread, v.fill}},
            {"crops", {c.colours, c.mirrored, c.spread, c.least_scale, c.most_scale, c.least_cover}},
            {"whole_every", options_.whole_every},
            {"weights", {w.structure, w.composition, w.screen, w.sparsity, w.alpha_l1, w.alpha_l0, w.bootstrap}},
            {"bootstrap_steps", w.bootstrap_steps}};
  }

  Text2LiveOptions options_;
  Image picture_;
  Text2LiveTexts texts_;
  Text2LiveObjective objective_;
  at::Tensor whole_;
  EditLayerNetwork network_;
  Trainer<std::function<at::Tensor(std::int64_t)>, Rate, Optimiser> run_;
};

}  // namespace ip2p
