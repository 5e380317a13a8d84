// How long an update waits for its checkpoint: a call of Trainer::save() with a state of 512 MiB.

#include <ATen/ops/randn.h>

#include <filesystem>

#include "ip2p/train/trainer.hpp"
#include "support/settings.hpp"

namespace {

void save_checkpoint(benchmark::State& state) {
  const auto folder = std::filesystem::temp_directory_path() / "ip2p-bench-checkpoint";
  std::filesystem::remove_all(folder);
  constexpr std::int64_t mebi = 1024 * 1024;
  ip2p::Parameters parameters;  // four times these: weights, averages and two moments
  for (int i = 0; i < 8; ++i) {
    parameters.names.push_back("weight." + std::to_string(i));
    parameters.tensors.push_back(at::randn({4, mebi}).set_requires_grad(true));
  }
  ip2p::TrainingOptions options;
  options.folder = folder;
  options.asynchronous = state.range(0) == 1;
  const auto no_loss = [](std::int64_t) { return at::Tensor(); };
  ip2p::Trainer run(parameters, no_loss, ip2p::ConstantRate{}, options);
  for (auto _ : state) {
    run.save();
    state.PauseTiming();
    run.finish_saving();
    state.ResumeTiming();
  }
  state.SetLabel(options.asynchronous ? "asynchronous" : "synchronous");
  state.SetBytesProcessed(state.iterations() * 512 * mebi);
  std::filesystem::remove_all(folder);
}

}  // namespace

BENCHMARK(save_checkpoint)
    ->Name("train/save_checkpoint")
    ->ArgName("asynchronous")
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
