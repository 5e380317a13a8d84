// How fast a training update is at SD1.5's size: from pictures, and from cached latents.

#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "device/profile.hpp"
#include "device/sd15.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"

namespace ip2p::device_check {

namespace {

/// Pictures somewhat larger than the crop.
struct BenchmarkPictures {
  explicit BenchmarkPictures(std::int64_t crop)
      : before(patterned(crop + crop / 8, crop + crop / 8)), after(patterned(crop + crop / 8, crop + crop / 8, 11)) {}
  std::int64_t size() const { return 64; }
  PairPictures get(std::int64_t i, SampleRandom&) const {
    return {before, after, fmt::format("make it number {}", i), "", "", std::to_string(i)};
  }
  Image before, after;
};

/// Latents of such pictures, encoded before.
struct BenchmarkLatents {
  explicit BenchmarkLatents(std::int64_t side)
      : mean(at::randn({4, side, side})),
        logvar(at::randn({4, side, side}).sub_(4)),
        condition(at::randn({4, side, side})) {}
  std::int64_t size() const { return 64; }
  EditPair get(std::int64_t i, SampleRandom&) const {
    return {mean, logvar, condition, fmt::format("make it number {}", i)};
  }
  at::Tensor mean, logvar, condition;
};

template <class Source>
void measure_updates(const Settings& settings, Report& report, const BenchmarkShapes& shapes, const std::string& kind,
                     Source& source, std::int64_t batch) {
  const auto name = fmt::format("{}, batch {}", kind, batch);
  report.attempt(name, [&] {
    const auto compute = settings.device.is_cpu() ? at::kFloat : best_dtype(settings.device);
    const auto unet = drawn<UNet>(shapes.unet(8), {.device = settings.device}, 80);
    auto text = drawn<ClipTextModel>(shapes.text, {.device = settings.device, .dtype = compute}, 81);
    text.freeze();
    const CachedTextEncoder encoder(ClipTextEncoder(published_tokenizer(settings), text));
    const DiffusionLoss loss(unet, encoder, source, UniformTimesteps{}, EpsPrediction{},
                             {.batch = batch, .compute = compute});
    Trainer trainer(Parameters().add(unet), loss);
    trainer.advance();
    reset_peak(settings.device);
    const double seconds = median_seconds(settings.device, settings.small ? 1 : 5, [&] { trainer.advance(); });
    report.measure(name + ": an update", 1e3 * seconds, "ms");
    report.measure(name + ": rate", static_cast<double>(batch) / seconds, "pictures/s");
    report.measure(name + ": peak", peak_gib(settings.device), "GiB");
    if (batch == 8) report_operations(report, name, settings.device, [&] { trainer.advance(); });
  });
}

void training_speed(const Settings& settings, Report& report) {
  const BenchmarkShapes shapes(settings);
  const Place place{.device = settings.device,
                    .dtype = settings.device.is_cpu() ? at::kFloat : best_dtype(settings.device)};
  const auto side = shapes.training_side;
  report.note("what", fmt::format("{} px, products in {}, weights in fp32, AdamW, moving average", side,
                                  dtype_name(place.dtype)));
  for (const std::int64_t batch : settings.small ? std::vector<std::int64_t>{2} : std::vector<std::int64_t>{8, 32}) {
    BenchmarkLatents latents(side / 8);
    measure_updates(settings, report, shapes, "cached latents", latents, batch);
    auto codec = drawn<KlAutoencoder>(shapes.codec, place, 82);
    codec.freeze();
    const BenchmarkPictures pictures(side);
    EncodedPairs pairs(pictures, codec, {.smallest = side, .largest = side + side / 8, .crop = side});
    measure_updates(settings, report, shapes, "from pictures", pairs, batch);
  }
}

}  // namespace

std::vector<Step> training_speed_steps() { return {{"training_speed", true, training_speed}}; }

}  // namespace ip2p::device_check
