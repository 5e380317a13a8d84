// How fast a training update is at SD1.5's size: from pictures, and from cached latents.

#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "device/sd15.hpp"
#include "device/training_parts.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "ip2p/text/cached_text_encoder.hpp"

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
PairsOf benchmark_latents(std::int64_t side) {
  const auto draw = [&] { return at::randn({4, side, side}); };
  return {64,
          [mean = draw(), logvar = draw().sub_(4), condition = draw()](std::int64_t i, SampleRandom&) {
            return EditPair{mean, logvar, condition, fmt::format("make it number {}", i)};
          },
          {}};
}

void measure_updates(const Settings& settings, Report& report, const BenchmarkShapes& shapes, const std::string& kind,
                     const PairsOf& source, std::int64_t batch) {
  const auto name = fmt::format("{}, batch {}", kind, batch);
  report.attempt(name, [&] {
    const auto compute = settings.device.is_cpu() ? at::kFloat : best_dtype(settings.device);
    auto text = drawn<ClipTextModel>(shapes.text, {.device = settings.device, .dtype = compute}, 81);
    text.freeze();
    TrainingRun run(drawn<UNet>(shapes.unet(8), {.device = settings.device}, 80),
                    CachedTextEncoder(ClipTextEncoder(published_tokenizer(settings), text)), source,
                    {.batch = batch, .compute = compute});
    run.trainer.advance();
    reset_peak(settings.device);
    const double seconds = median_seconds(settings.device, settings.small ? 1 : 5, [&] { run.trainer.advance(); });
    report.measure(name + ": an update", 1e3 * seconds, "ms");
    report.measure(name + ": rate", static_cast<double>(batch) / seconds, "pictures/s");
    report.measure(name + ": peak", peak_gib(settings.device), "GiB");
    if (batch <= 8) report_operations(report, name, settings.device, [&] { run.trainer.advance(); });
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
    measure_updates(settings, report, shapes, "cached latents", benchmark_latents(side / 8), batch);
    auto codec = drawn<KlAutoencoder>(shapes.codec, place, 82);
    codec.freeze();
    const BenchmarkPictures pictures(side);
    const EncodedPairs pairs(pictures, codec, {.smallest = side, .largest = side + side / 8, .crop = side});
    measure_updates(settings, report, shapes, "from pictures",
                    {64, [&](std::int64_t i, SampleRandom& random) { return pairs.get(i, random); },
                     [&](auto is, auto random) { return pairs.get_all(is, random); }},
                    batch);
  }
}

}  // namespace

std::vector<Part> training_speed_steps() { return {{"training_speed", true, training_speed}}; }

}  // namespace ip2p::device_check
