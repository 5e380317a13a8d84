// One update of the editor's training: pairs encoded on demand, or cached latents. The
// model is that of IP2P_BENCH_MODEL. bench/compare_training.py runs this beside diffusers' training step.

#include <ATen/ops/randn.h>

#include <memory>
#include <string>
#include <vector>

#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/nn/winograd_gradients.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/checkpoint_gradients.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/model.hpp"
#include "support/settings.hpp"

namespace {

using namespace ip2p;

constexpr std::int64_t prompts = 64;

/// Random pictures somewhat larger than the crop.
struct RandomPictures {
  explicit RandomPictures(std::int64_t crop) {
    const auto side = crop + crop / 8;
    for (auto* picture : {&before, &after}) {
      *picture = from_tensor(at::randn({3, side, side}).mul_(40).add_(128).clamp_(0, 255).to(at::kByte));
    }
  }
  std::int64_t size() const { return prompts; }
  PairPictures get(std::int64_t i, SampleRandom&) const {
    return {before, after, "make it number " + std::to_string(i), "", "", std::to_string(i)};
  }
  Image before, after;
};

/// Latents of such pictures, encoded beforehand.
struct RandomLatents {
  RandomLatents(std::int64_t channels, std::int64_t side)
      : mean(at::randn({channels, side, side})),
        logvar(at::randn({channels, side, side}).sub_(4)),
        condition(at::randn({channels, side, side})) {}
  std::int64_t size() const { return prompts; }
  EditPair get(std::int64_t i, SampleRandom&) const {
    return {mean, logvar, condition, "make it number " + std::to_string(i)};
  }
  at::Tensor mean, logvar, condition;
};

template <PairSource Source>
void measure(benchmark::State& state, const ModelFiles& files, Source& pairs) {
  const auto unet = load<UNet>(files, {.inference = false});
  ip2p::checkpoint_gradients(unet, state.range(3) != 0);
  ip2p::winograd_gradients(unet.module(), state.range(4) != 0);
  const CachedTextEncoder text(load<ClipTextEncoder>(files));
  const DiffusionLoss loss(unet, text, pairs, UniformTimesteps{}, EpsPrediction{},
                           {.batch = state.range(1), .compute = bench::dtype_of(state.range(2))});
  Trainer run(Parameters().add(unet), loss);
  run.advance();
  for (auto _ : state) run.advance();
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.SetLabel(bench::dtype_name(state.range(2)));
  bench::report_peak_memory(state);
}

void online(benchmark::State& state) {
  bench::with_model(state, [&](const ModelFiles& files) {
    const RandomPictures pictures(state.range(0));
    const PairAugmentation augmentation{
        .smallest = state.range(0), .largest = state.range(0) + state.range(0) / 8, .crop = state.range(0)};
    EncodedPairs pairs(pictures, load_codec(files, {.dtype = bench::dtype_of(state.range(2))}), augmentation);
    measure(state, files, pairs);
  });
}

void cached(benchmark::State& state) {
  bench::with_model(state, [&](const ModelFiles& files) {
    const auto codec = load_codec(files);
    const RandomLatents pairs(codec.latent_channels(), state.range(0) / codec.downscale());
    measure(state, files, pairs);
  });
}

void settings(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"pixels", "batch", "dtype", "checkpointing", "winograd"})
      ->ArgsProduct({{256}, {1, 2, 4, 8}, {0, 1}, {0, 1}, {0, 1}})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace

BENCHMARK(online)->Name("train/online")->Apply(settings);
BENCHMARK(cached)->Name("train/cached")->Apply(settings);
