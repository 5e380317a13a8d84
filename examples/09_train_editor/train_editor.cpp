// Trains an instruction-following editor on pairs of pictures: from Stable Diffusion or from an editor, whole or as a
// LoRA, in one process or in several started by torchrun or Slurm. The defaults are those of the published run.
//
//   train_editor --model stable-diffusion-v1-5 --pairs clip-filtered-dataset --out training --dtype bf16
//   torchrun --nproc-per-node 8 --no-python train_editor --config paper.toml

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/core/freed_memory.hpp"
#include "ip2p/data/any_picture_pairs.hpp"
#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/nn/winograd_gradients.hpp"
#include "ip2p/parallel/device_for.hpp"
#include "ip2p/parallel/launch.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/train/adafactor.hpp"
#include "ip2p/train/agreement.hpp"
#include "ip2p/train/any_learning_rate.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/checkpoint_gradients.hpp"
#include "ip2p/unet/unet.hpp"
#include "model.hpp"
#include "options.hpp"
#include "pairs.hpp"
#include "samples.hpp"
#include "support/contents.hpp"
#include "support/hub.hpp"
#include "support/loss_plot.hpp"
#include "support/output_folder.hpp"
#include "support/program.hpp"
#include "support/run_record.hpp"
#include "support/use_threads.hpp"

namespace train_editor {

namespace fs = std::filesystem;

/// Weight of noise levels that the command line names.
std::function<double(double, const ip2p::Preconditioning&)> loss_weight(const Options& o) {
  if (o.weight == "min-snr") return ip2p::MinSnrWeight{.gamma = o.min_snr_gamma};
  return ip2p::UniformWeight{};
}

/// A run and everything it needs, as seen by one of its processes.
class Training {
 public:
  Training(Options o, const ip2p::ProcessPlace& place, const ip2p::ProcessGroup& processes)
      : o_(with_shape(std::move(o))),
        processes_(processes),
        device_(ip2p::device_for(o_.device, place)),
        dtype_(ip2p::parse_dtype(o_.dtype, device_)),
        files_(ip2p::ModelFiles::open(example::located(o_.model))),
        scheduler_(scheduler_of(files_, o_)),
        pictures_(open_pairs(ip2p::PairSplit::train)),
        codec_(open_codec(files_, {.device = device_, .dtype = frozen_dtype()})),
        text_(open_text_encoder(
            files_, {.device = device_, .dtype = frozen_dtype()},
            {.folder = o_.cache.empty() ? fs::path() : o_.cache / "texts", .encoder = checksum("text_encoder")})),
        pairs_(pictures_, codec_, checksum("vae"), o_),
        unet_(open_unet(files_)) {
    ip2p::require(pictures_.size() > 0, "{}: expected pairs to train on, found none in the training split",
                  o_.data.string());
    const auto pass = processes_.size() * o_.micro_batch;
    accumulate_ = std::max<std::int64_t>(1, (o_.batch + pass - 1) / pass);
    ip2p::require(o_.batch % (processes_.size() * accumulate_) == 0,
                  "--batch: expected a multiple of {} processes x {} passes, found {}", processes_.size(), accumulate_,
                  o_.batch);
    unet_.to(device_, at::kFloat);
    ip2p::checkpoint_gradients(unet_, o_.checkpoint_gradients);
    ip2p::winograd_gradients(unet_.module(), !o_.direct_convolution);
    if (o_.lora_rank > 0) {
      lora_ = ip2p::new_lora(unet_, {.rank = o_.lora_rank, .alpha = o_.lora_alpha, .seed = o_.seed});
      parameters_.add(*lora_);
    } else {
      parameters_.add(unet_);
    }
  }

  int operator()(const example::Interrupt& interrupt) {
    std::optional<example::OutputFolder> folder;  // outlives the record, which may leave it empty
    std::optional<ip2p::FolderLock> lock;
    example::RunRecord record(o_.out / "run.json", settings(), [this] { return has_checkpoints(); });
    ip2p::detail::on_first(processes_, "continue the run", [&] { record.agree(o_.change); });
    if (ip2p::detail::any_of_all(speaks() && record.finished() >= o_.steps && fs::exists(result()), processes_)) {
      if (speaks())
        fmt::print("complete already, at step {}: {}\n", record.finished(),
                   (o_.lora_rank > 0 ? result() : result().parent_path()).string());
      return 0;
    }
    if (speaks()) describe();
    if (o_.dry_run) return 0;
    ip2p::detail::on_first(processes_, "begin in its folder", [&] {
      folder.emplace(o_.out);
      lock.emplace(o_.out, std::initializer_list<const char*>{"samples", "model"});
    });
    return o_.optimiser == "adafactor" ? train<ip2p::Adafactor>(interrupt, record)
                                       : train<ip2p::AdamW>(interrupt, record);
  }

 private:
  static Options with_shape(Options o) {
    o.augmentation.shape = o.shape == "square" ? ip2p::PairShape::square : ip2p::PairShape::kept;
    return o;
  }

  /// What the result depends on: all options but those that only decide how and where it is computed, and what is kept
  /// and shown of it.
  [[nodiscard]] nlohmann::json settings() const {
    auto settings = example::settings_of(
        o_.values, {"workers", "micro-batch", "gradient-checkpointing", "shard-state", "direct-convolution", "dry-run",
                    "checkpoint-every", "keep-checkpoints", "log-every", "sample-every", "samples", "sample-steps",
                    "image-scale", "text-scale"});
    settings["--model"] = example::content_setting(o_.model, example::model_digest(files_));
    settings["--pairs"] = example::content_setting(o_.data, example::pairs_digest(o_.data));
    settings["--cache"] = o_.cache.empty() ? "none" : "given";  // with one, crops are not drawn
    if (o_.schedule == "constant") settings.erase("--steps");   // which then only says where to stop
    return settings;
  }

  [[nodiscard]] bool has_checkpoints() const {
    return speaks() && !ip2p::CheckpointFolder(o_.out / "checkpoints").steps().empty();
  }

  /// What the program makes: a model folder, or a LoRA.
  [[nodiscard]] fs::path result() const {
    return o_.out / (o_.lora_rank > 0 ? "lora.safetensors" : "model/model_index.json");
  }

  [[nodiscard]] ip2p::AnyPicturePairs open_pairs(ip2p::PairSplit split) const {
    return ip2p::AnyPicturePairs::open(o_.data, {.split = split, .scan = o_.scan});
  }

  static ip2p::SchedulerConfig scheduler_of(const ip2p::ModelFiles& files, const Options& o) {
    auto config = files.has("scheduler") ? ip2p::scheduler_config_from_json(files.config("scheduler"), "scheduler")
                                         : ip2p::SchedulerConfig{};
    if (o.prediction == "epsilon") config.prediction = ip2p::PredictionType::epsilon;
    if (o.prediction == "v_prediction") config.prediction = ip2p::PredictionType::v_prediction;
    if (o.prediction == "sample") config.prediction = ip2p::PredictionType::sample;
    return config;
  }

  /// Autoencoder and text encoder are not trained; fp16 is too narrow for the former's activations.
  [[nodiscard]] at::ScalarType frozen_dtype() const { return dtype_ == at::kHalf ? at::kFloat : dtype_; }

  [[nodiscard]] std::string checksum(const char* component) const {
    return o_.cache.empty() ? std::string() : ip2p::weights_checksum(files_.weights(component));
  }

  [[nodiscard]] bool speaks() const { return processes_.rank() == 0; }

  void describe() const {
    const auto gib = [](double bytes) { return example::gibibytes(bytes); };
    const auto trained = static_cast<double>(parameters_.elements());
    const auto all = static_cast<double>(ip2p::element_count(files_.weights("unet")));
    const double share = o_.shard_state ? static_cast<double>(processes_.size()) : 1.0;
    const double optimiser = o_.optimiser == "adamw" ? state_bytes<ip2p::AdamW>() : state_bytes<ip2p::Adafactor>();
    fmt::print("model: {}\ncomputes in {} on {}, weights in fp32\n", files_.describe(), dtype_name(), device_.str());
    fmt::print("trains {:.1f} M values{}\n", trained / 1e6, lora_ ? " of a LoRA" : "");
    fmt::print("data: {}, {} prompts, {} an epoch of {} updates\n", o_.data.string(), pictures_.size(),
               pictures_.size(), (pictures_.size() + o_.batch - 1) / o_.batch);
    const auto& a = o_.augmentation;
    if (o_.cache.empty()) {
      fmt::print("pictures: random squares of {0}x{0} pixels, of pictures {1} {2} to {3}; {4:g} % mirrored\n", a.crop,
                 o_.shape == "square" ? "of which both sides are made" : "whose shorter side is made", a.smallest,
                 a.largest, 100 * a.mirror);
    } else {
      fmt::print("pictures: the middle square of each, at {0}x{0} pixels\n", a.crop);
    }
    fmt::print("updates: {} of {} samples: {} process{} x {} pass{} x {}\n", o_.steps, o_.batch, processes_.size(),
               processes_.size() == 1 ? "" : "es", accumulate_, accumulate_ == 1 ? "" : "es",
               o_.batch / processes_.size() / accumulate_);
    fmt::print(
        "memory of each process without activations, codec and text encoder: weights {}, gradients {}, optimiser {}, "
        "averages {}\n",
        gib(4 * all + (dtype_ == at::kFloat ? 0 : 2 * all)), gib(4 * trained), gib(optimiser / share),
        gib(4 * trained / share));
  }

  /// Bytes that an optimiser keeps for these parameters; nothing is allocated.
  template <ip2p::OptimiserPolicy Optimiser>
  [[nodiscard]] double state_bytes() const {
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

  [[nodiscard]] const char* dtype_name() const {
    return dtype_ == at::kFloat ? "fp32" : dtype_ == at::kHalf ? "fp16" : "bf16";
  }

  template <ip2p::OptimiserPolicy Optimiser>
  int train(const example::Interrupt& interrupt, example::RunRecord& record) {
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
    ip2p::detail::on_first(processes_, "write its settings", [&] { record.begin(run.step()); });
    if (speaks()) {
      for (const auto& line : skipped) fmt::print("skipped: {}\n", line);
      if (resumed) fmt::print("resumed at step {}\n", run.step());
      std::fflush(stdout);
    }

    Report report(*this, run.step());
    bool first = true;
    const bool complete = run.run(
        o_.steps,
        [&](const ip2p::TrainingProgress& progress) {
          if (speaks() && std::exchange(first, false)) write_configuration(record);
          report(progress);
          if (o_.sample_every > 0 && (progress.step % o_.sample_every == 0 || progress.step == o_.steps)) {
            run.with_average([&] {
              if (speaks()) write_samples(o_, progress.step, {text_, codec_, unet_, scheduler_}, validation());
            });
          }
        },
        interrupt.token());
    run.with_average([&] { write_result(); });
    if (speaks()) {
      finish(run.curve().points(), run.step(), complete);
      record.finish(run.step());
    }
    return complete ? 0 : 130;
  }

  /// The options of the run, with a comment for each time that they changed.
  void write_configuration(const example::RunRecord& record) const {
    std::string text;
    for (const auto& change : record.changes()) text += fmt::format("# {}\n", change);
    text += o_.configuration;
    ip2p::write_file_atomically(o_.out / "config.toml", std::as_bytes(std::span(text)));
  }

  /// Prints a progress line at intervals.
  class Report {
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

  /// The validation split, or the training pictures if it is empty.
  const ip2p::AnyPicturePairs& validation() {
    if (!validation_) {
      auto split = open_pairs(ip2p::PairSplit::validation);
      validation_.emplace(split.size() > 0 ? std::move(split) : pictures_);
    }
    return *validation_;
  }

  /// What other programs open: a model folder, or the LoRA.
  void write_result() const {
    if (!speaks()) return;
    if (!lora_) return write_model(o_.out / "model", files_, unet_, scheduler_);
    ip2p::make_folder(o_.out);
    ip2p::write_safetensors(o_.out / "lora.safetensors", lora_->state());
  }

  void finish(const std::vector<ip2p::LossPoint>& points, std::int64_t step, bool complete) const {
    example::plot_loss(o_.out / "loss.png", points);
    for (const auto& pair : pictures_.damage()) fmt::print("skipped {}: {}\n", pair.path, pair.reason);
    fmt::print("{} at step {}: {}\n", complete ? "complete" : "stopped; run the same command again to continue", step,
               (lora_ ? result() : result().parent_path()).string());
  }

  Options o_;
  ip2p::ProcessGroup processes_;
  at::Device device_;
  at::ScalarType dtype_;
  ip2p::ModelFiles files_;
  ip2p::SchedulerConfig scheduler_;
  ip2p::AnyPicturePairs pictures_;
  std::optional<ip2p::AnyPicturePairs> validation_;
  ip2p::AnyCodec codec_;
  TextEncoder text_;
  Pairs pairs_;
  ip2p::UNet unet_;
  std::optional<ip2p::AppliedLora> lora_;
  ip2p::Parameters parameters_;
  std::int64_t accumulate_ = 1;
};

}  // namespace train_editor

int main(int argc, char** argv) {
  train_editor::Options o;
  return example::run_program(
      argc, argv, "train_editor", "Trains an instruction-following editor on pairs of pictures.",
      [&](CLI::App& app) { train_editor::add_options(app, o); },
      [&](const example::Interrupt& interrupt) {
        ip2p::set_freed_memory(ip2p::FreedMemory::kept);
        example::use_threads(o.threads);
        const auto place = ip2p::place_in_environment();
        const auto processes = ip2p::launch(place);
        return train_editor::Training(std::move(o), place, processes)(interrupt);
      });
}
