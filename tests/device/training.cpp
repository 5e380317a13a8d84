// Training on the device against the CPU: optimisers, averages, losses, updates, resumption, caches, Text2LIVE.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "device/training_parts.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/data/cached_pairs.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/text2live/clip_guide.hpp"
#include "ip2p/text2live/generator.hpp"
#include "ip2p/text2live/objective.hpp"
#include "ip2p/train/adafactor.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/ema.hpp"
#include "ip2p/train/madgrad.hpp"
#include "ip2p/unet/checkpoint_gradients.hpp"

namespace ip2p::device_check {

namespace {

/// A folder that is gone at the end.
class Scratch {
 public:
  Scratch()
      : path_(std::filesystem::temp_directory_path() / fmt::format("ip2p-device-check-{}", std::random_device{}())) {
    std::filesystem::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Tensors of the ranks that a network has.
std::vector<at::Tensor> some_parameters(const Place& place) {
  std::vector<at::Tensor> all;
  std::uint64_t seed = 30;
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{48, 24, 3, 3}, {64, 40}, {40}, {1, 7}}) {
    // fp64 as the reference: an optimiser is short enough to follow exactly.
    auto parameter = CounterNoise(seed++).normal(shape, 0).to(place.device, place.reference ? at::kDouble : at::kFloat);
    if (shape.size() == 4) parameter = parameter.contiguous(at::MemoryFormat::ChannelsLast);
    all.push_back(parameter.set_requires_grad(true));
  }
  return all;
}

void set_gradients(std::vector<at::Tensor>& parameters, std::int64_t step) {
  std::uint64_t seed = 40;
  for (auto& parameter : parameters) {
    const auto gradient = CounterNoise(seed++).normal(parameter.sizes(), step).mul(0.1);
    parameter.mutable_grad() = gradient.to(parameter.device(), parameter.scalar_type());
  }
}

template <OptimiserPolicy Optimiser>
void check_optimiser(const Settings& settings, Report& report, const std::string& name, double rate) {
  parity(report, settings, name,
         [&](const Place& place) {
           auto parameters = some_parameters(place);
           Optimiser optimiser(parameters, typename Optimiser::Options{});
           ExponentialAverage average(parameters, 0.9);
           for (std::int64_t step = 0; step < 6; ++step) {
             set_gradients(parameters, step);
             optimiser.step(rate);
             average.update();
           }
           auto all = parameters;
           all.insert(all.end(), average.average().begin(), average.average().end());
           return joined(all);
         },
         {at::kFloat});
}

void optimisers(const Settings& settings, Report& report) {
  check_optimiser<AdamW>(settings, report, "AdamW and the moving average, 6 updates", 1e-2);
  check_optimiser<Adafactor>(settings, report, "Adafactor and the moving average, 6 updates", 1e-2);
  check_optimiser<Madgrad>(settings, report, "MADGRAD and the moving average, 6 updates", 1e-2);
}

/// Latents that were encoded before.
PairsOf made_pairs(std::int64_t side) {
  return {8, [side](std::int64_t i, SampleRandom&) {
            const auto made = [&](std::uint64_t seed) {
              return CounterNoise(seed).normal({1, 4, side, side}, i).squeeze(0);
            };
            return EditPair{made(50), made(51).sub(4), made(52), fmt::format("make it number {}", i % 3)};
          }};
}

/// Runs that begin alike, wherever they are.
class Beginning {
 public:
  explicit Beginning(const Settings& settings)
      : small_(settings.small),
        tokenizer_(published_tokenizer(settings)),
        unet_(seeded<UNet>(checked_unet(settings.small, 8), 31)),
        text_(seeded<ClipTextModel>(checked_text(), 32)) {}

  [[nodiscard]] std::unique_ptr<TrainingRun> at_place(const Place& place, const TrainingOptions& options = {}) const {
    return std::make_unique<TrainingRun>(placed(unet_, {.device = place.device, .reference = true}),
                                         ClipTextEncoder(tokenizer_, placed(text_, {.device = place.device})),
                                         made_pairs(small_ ? 8 : 16),
                                         DiffusionLossOptions{.batch = 4, .compute = place.dtype}, options);
  }

 private:
  bool small_;
  BpeTokenizer tokenizer_;
  UNet unet_;
  ClipTextModel text_;
};

void updates(const Settings& settings, Report& report) {
  const Beginning beginning(settings);
  for (const bool checkpointed : {false, true}) {
    parity(
        report, settings, checkpointed ? "loss and gradients, recomputed in the backward pass" : "loss and gradients",
        [&](const Place& place) {
          const auto run = beginning.at_place(place);
          checkpoint_gradients(run->unet, checkpointed);
          const auto loss = run->loss(0);
          constexpr double scale = 1024.0;  // keeps fp16's gradients among its normal numbers
          (loss * scale).backward();
          std::vector<at::Tensor> all{loss};
          for (const auto& parameter : run->trainer.parameters().tensors) all.push_back(parameter.grad() / scale);
          return joined(all);
        },
        every_dtype, 8.0);
  }
  // Adam's first updates have the sign of the gradient: where that is nearly zero, rounding decides it. The losses of
  // the updates tell the weights of the network as a whole.
  parity(
      report, settings, "losses of 4 updates",
      [&](const Place& place) {
        const auto run = beginning.at_place(place);
        std::vector<at::Tensor> losses;
        for (int i = 0; i < 4; ++i) losses.push_back(at::tensor(run->trainer.advance().loss));
        return joined(losses);
      },
      every_dtype, 4.0);
}

void checkpoints(const Settings& settings, Report& report) {
  const Beginning beginning(settings);
  const Place here{.device = settings.device};
  const Scratch scratch;
  const TrainingOptions options{.folder = scratch.path(), .checkpoint_every = 2};
  const auto whole = beginning.at_place(here, options);
  whole->trainer.run(2);
  const auto expected = whole->trainer.snapshot();
  const auto resumed = beginning.at_place(here, options);
  report.expect("a checkpoint is found", resumed->trainer.resume() && resumed->trainer.step() == 2,
                fmt::format("step {}", resumed->trainer.step()));
  const auto found = resumed->trainer.snapshot();
  std::int64_t different = 0;
  for (const auto& [name, tensor] : expected.tensors) different += found.tensors.at(name).equal(tensor) ? 0 : 1;
  report.expect("what is resumed equals what was saved, bit for bit", different == 0,
                fmt::format("{} of {} tensors differ", different, expected.tensors.size()));
  const double a = whole->trainer.advance().loss, b = resumed->trainer.advance().loss;
  // The forward pass of equal weights; backward passes on a GPU may add in another order from here on.
  report.compare("the next update's loss", std::abs(a - b) / std::abs(a), 1e-6);
}

/// Pictures with names, as a set of pairs has.
struct NamedPictures {
  std::int64_t side = 64;
  std::int64_t size() const { return 3; }
  PairChoice choose(std::int64_t i, SampleRandom& random) const { return {i, random.uniform()}; }
  std::string id(const PairChoice& choice) const { return fmt::format("{:07}/0", choice.prompt); }
  PairPictures read(const PairChoice& choice) const {
    const auto stride = static_cast<unsigned>(choice.prompt);
    return {patterned(side, side, 7 + stride), patterned(side, side, 11 + stride), "make it snowy", "", "", id(choice)};
  }
  PairPictures get(std::int64_t i, SampleRandom& random) const { return read(choose(i, random)); }
};

void caches(const Settings& settings, Report& report) {
  const auto codec = seeded<KlAutoencoder>(checked_codec(settings.small), 33);
  const NamedPictures pictures;
  const auto all = [&](auto& source) {
    std::vector<at::Tensor> tensors;
    for (std::int64_t i = 0; i < source.size(); ++i) {
      SampleRandom random(1, 2, static_cast<std::uint64_t>(i));
      const auto pair = source.get(i, random);
      tensors.insert(tensors.end(), {pair.target_mean, pair.target_logvar, pair.condition});
    }
    return joined(tensors);
  };
  parity(
      report, settings, "pairs encoded when asked for",
      [&](const Place& place) {
        const EncodedPairs source(pictures, placed(codec, place), {.smallest = 48, .largest = 56, .crop = 48});
        return all(source);
      },
      every_dtype, 4.0);
  parity(
      report, settings, "pairs from a cache",
      [&](const Place& place) {
        const Scratch scratch;
        CachedPairs source(pictures, placed(codec, place), {.folder = scratch.path(), .codec = "seeded", .crop = 48});
        const auto made = all(source);
        const auto again = source.made();
        require(all(source).equal(made) && source.made() == again,
                "expected the second reading to find all in the cache");
        return made;
      },
      every_dtype, 4.0);
  const auto text = seeded<ClipTextModel>(checked_text(), 34);
  parity(
      report, settings, "texts from a cache",
      [&](const Place& place) {
        const CachedTextEncoder cached(ClipTextEncoder(published_tokenizer(settings), placed(text, place)));
        const std::vector<std::string> prompts{"make it snowy", "as a painting", "make it snowy"};
        return cached.encode(prompts);
      },
      every_dtype, 4.0);
}

void text2live(const Settings& settings, Report& report) {
  ClipConfig config;
  config.text = checked_text();
  config.projection_dim = 32;
  config.vision = {.hidden_size = 64,
                   .intermediate_size = 128,
                   .num_hidden_layers = 3,
                   .num_attention_heads = 2,
                   .image_size = 32,
                   .patch_size = 8};
  ClipModel model(config);
  model.initialise(35);
  const auto photo = patterned(72, 56);
  parity(report, settings, "two updates: losses, gradients and the layer",
         [&](const Place& place) {
           const ClipViews views{.count = 3};
           const Text2LiveObjective objective(
               ClipGuide(Clip(published_tokenizer(settings), placed(model, place))),
               {.edited = "a golden horse", .source = "a horse", .layer = "", .region = "horse"}, {}, views);
           EditLayerNetwork network({.scales = 3, .channels = 8});
           network.initialise(36);
           network.to(place.device, at::kFloat);
           const auto parameters = Parameters().add(network.module(), "layer");
           Madgrad optimiser(parameters.tensors);
           const auto picture = to_tensor(photo).unsqueeze(0).to(place.device, at::kFloat).div(255);
           std::vector<at::Tensor> all;
           for (std::int64_t step = 0; step < 2; ++step) {
             SampleRandom random(5, static_cast<std::uint64_t>(step), 0);
             const auto terms =
                 objective({picture}, {network(picture)}, objective.draw({size_of(picture)}, random), step);
             optimiser.zero_gradients();
             terms.total.backward();
             all.insert(all.end(), {terms.total, terms.structure, terms.edited, terms.direction, terms.screen});
             if (step == 0) {
               for (const auto& parameter : parameters.tensors) all.push_back(parameter.grad());
             }
             optimiser.step(2.5e-3);
           }
           const at::NoGradGuard no_grad;
           const auto layer = network(picture);
           all.insert(all.end(), {layer.colours, layer.alpha});
           return joined(all);
         },
         {at::kFloat});
}

}  // namespace

std::vector<Part> training_steps() {
  return {{"optimisers", false, optimisers},
          {"updates", false, updates},
          {"checkpoints", false, checkpoints},
          {"caches", false, caches},
          {"text2live", false, text2live}};
}

}  // namespace ip2p::device_check
