// An edit carried to a photograph's own size.

#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "support/pictures.hpp"
#include "support/settings.hpp"

namespace {

/// A photograph of 3:2, and a model's pictures of the same proportions that differ in their colours.
struct Upsampled {
  ip2p::Image photo;
  ip2p::ModelEdit edit;

  Upsampled(std::int64_t width, std::int64_t side) : photo(ip2p::bench::scattered(width, width * 2 / 3)) {
    edit.before = ip2p::resize(photo, side, side * 2 / 3, ip2p::Filter::bicubic);
    edit.after = edit.before;
    for (std::size_t i = 0; i < edit.after.pixels.size(); i += 3) edit.after.pixels[i] /= 2;
    edit.seen = {0, 0, static_cast<float>(photo.width), static_cast<float>(photo.height)};
  }
};

void learn_edit(benchmark::State& state) {
  const Upsampled made(3000, state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::BilateralGuidedUpsampling{}.learn(made.photo, made.edit));
}

void apply_edit(benchmark::State& state) {
  const Upsampled made(state.range(0), 512);
  auto learned = ip2p::BilateralGuidedUpsampling{}.learn(made.photo, made.edit);
  if (state.range(1) != 0) learned.doubt.assign(learned.doubt.size(), 0.5F);  // the enlarged edit too, everywhere
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::BilateralGuidedUpsampling::apply(made.photo, learned));
  state.SetItemsProcessed(state.iterations() * made.photo.width * made.photo.height);
}

}  // namespace

BENCHMARK(learn_edit)->Name("upsampling/learn")->ArgName("side")->Arg(256)->Arg(512)->UseRealTime();
BENCHMARK(apply_edit)
    ->Name("upsampling/apply")
    ->ArgNames({"width", "doubt"})
    ->Args({3000, 0})
    ->Args({6000, 0})
    ->Args({6000, 1})
    ->UseRealTime();
