// What a run does update by update, for either optimiser.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/parallel/launch.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/train/adafactor.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/any_learning_rate.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/loss_plot.hpp"
#include "support/program.hpp"
#include "train.hpp"
#include "training.hpp"

namespace train_editor {

namespace {

/// Weight of noise levels that the command line names.
std::function<double(double, const ip2p::Preconditioning&)> loss_weight(const Options& o) {
  if (o.weight == "min-snr") return ip2p::MinSnrWeight{.gamma = o.min_snr_gamma};
  return ip2p::UniformWeight{};
}

}  // namespace

class Training::Report {
 public:
  Report(const Training& training, std::int64_t first) : training_(&training), first_(first) {}

  void operator()(const ip2p::TrainingProgress& progress) {
    const auto& o = training_->o_;
    sum_ += progress.loss;
    ++count_;
    if (!training_->speaks() || (progress.step % o.log_every != 0 && progress.step != o.steps)) return;
    const double seconds = example::seconds_since(begin_) / static_cast<double>(progress.step - first_);
    fmt::print("step {} of {}: loss {:.5f}, rate {:.2e}, {:.2f} images/s, {} left\n", progress.step, o.steps,
               sum_ / static_cast<double>(count_), progress.rate, static_cast<double>(o.batch) / seconds,
               example::clock_text(seconds * static_cast<double>(o.steps - progress.step)));
    std::fflush(stdout);
    sum_ = 0;
    count_ = 0;
  }

 private:
  const Training* training_;
  std::int64_t first_;
  example::Clock::time_point begin_ = example::Clock::now();
  double sum_ = 0;
  std::int64_t count_ = 0;
};

template <class Optimiser>
double Training::state_bytes() const {
  std::vector<at::Tensor> shapes;
  for (const auto& tensor : parameters_.tensors) {
    shapes.push_back(at::empty(tensor.sizes(), tensor.options().device(at::kMeta)));
  }
  double bytes = 0;
  for (const auto& kind : Optimiser(shapes, {}).state()) {
    for (const auto& tensor : kind.tensors) bytes += tensor.defined() ? static_cast<double>(tensor.nbytes()) : 0;
  }
  return bytes;
}

void Training::describe() const {
  const auto gib = [](double bytes) { return example::gibibytes(bytes); };
  const auto trained = static_cast<double>(parameters_.elements());
  const auto all = static_cast<double>(ip2p::element_count(files_.weights("unet")));
  const double share = o_.shard_state ? static_cast<double>(place_.size) : 1.0;
  const double optimiser = o_.optimiser == "adamw" ? state_bytes<ip2p::AdamW>() : state_bytes<ip2p::Adafactor>();
  fmt::print("model: {}\ncomputes in {} on {}, weights in fp32\n", files_.describe(), dtype_name(), device_.str());
  fmt::print("trains {:.1f} M values{}\n", trained / 1e6, lora_ ? " of a LoRA" : "");
  fmt::print("data: {}, {} prompts, {} an epoch of {} updates\n", o_.data.string(), pictures_.size(), pictures_.size(),
             (pictures_.size() + o_.batch - 1) / o_.batch);
  fmt::print("updates: {} of {} samples: {} process{} x {} pass{} x {}\n", o_.steps, o_.batch, place_.size,
             place_.size == 1 ? "" : "es", accumulate_, accumulate_ == 1 ? "" : "es",
             o_.batch / place_.size / accumulate_);
  fmt::print(
      "memory of each process without activations, codec and text encoder: weights {}, gradients {}, optimiser {}, "
      "averages {}\n",
      gib(4 * all + (dtype_ == at::kFloat ? 0 : 2 * all)), gib(4 * trained), gib(optimiser / share),
      gib(4 * trained / share));
}

template <class Optimiser>
int Training::train(const example::Interrupt& interrupt) {
  const auto encode = [this](std::span<const std::string> prompts) { return text_.encode(prompts).to(device_); };
  const ip2p::DiffusionLoss loss(
      unet_, encode, pairs_, ip2p::UniformTimesteps(ip2p::DiscreteSchedule(scheduler_.noise)),
      ip2p::AnyPrediction{scheduler_.prediction},
      {.batch = o_.batch, .seed = o_.seed, .scaling_factor = codec_.scaling_factor(), .compute = dtype_}, o_.dropout,
      loss_weight(o_));

  ip2p::TrainingOptionsOf<Optimiser> options{
      .folder = o_.out / "checkpoints",
      .checkpoint_every = o_.checkpoint_every,
      .keep = o_.keep,
      .ema_decay = o_.ema,
      .clip_norm = o_.clip,
      .accumulate = accumulate_,
      .prefetch = {.workers = o_.workers, .ahead = 2 * std::max<std::int64_t>(1, o_.workers)},
      .shard_state = o_.shard_state};
  options.optimiser.weight_decay = o_.weight_decay;
  const ip2p::LearningRateSettings rate{.peak = o_.rate, .warmup = o_.warmup, .steps = o_.steps};
  ip2p::Trainer run(parameters_, loss, ip2p::AnyLearningRate::named(o_.schedule, rate), options, processes_);
  std::vector<std::string> skipped;
  const bool resumed = run.resume(&skipped);
  if (speaks()) {
    ip2p::write_file_atomically(o_.out / "config.toml", std::as_bytes(std::span(o_.configuration)));
    for (const auto& line : skipped) fmt::print("skipped: {}\n", line);
    if (resumed) fmt::print("resumed at step {}\n", run.step());
    std::fflush(stdout);
  }

  Report report(*this, run.step());
  const bool complete = run.run(
      o_.steps,
      [&](const ip2p::TrainingProgress& progress) {
        report(progress);
        if (o_.sample_every > 0 && (progress.step % o_.sample_every == 0 || progress.step == o_.steps)) {
          run.with_average([&] { write_samples(progress.step); });
        }
      },
      interrupt.token());
  run.with_average([&] { write_model(); });
  if (speaks()) finish(run.curve().points(), run.step(), complete);
  return 0;
}

int Training::operator()(const example::Interrupt& interrupt) {
  if (speaks()) describe();
  if (o_.dry_run) return 0;
  return o_.optimiser == "adafactor" ? train<ip2p::Adafactor>(interrupt) : train<ip2p::AdamW>(interrupt);
}

int train(Options o, const example::Interrupt& interrupt) {
  const auto place = ip2p::place_in_environment();
  const auto processes = ip2p::launch(place);
  return Training(std::move(o), place, processes)(interrupt);
}

void Training::finish(const std::vector<ip2p::LossPoint>& points, std::int64_t step, bool complete) const {
  example::plot_loss(o_.out / "loss.png", points);
  for (const auto& pair : pictures_.damage()) fmt::print("skipped {}: {}\n", pair.path, pair.reason);
  fmt::print("{} at step {}: {}\n", complete ? "complete" : "stopped; run the same command again to continue", step,
             (o_.out / (lora_ ? "lora.safetensors" : "model")).string());
}

}  // namespace train_editor
