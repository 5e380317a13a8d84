#pragma once

/// \file
/// The command line of train_editor. Its defaults are the published run's.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ip2p/data/augment.hpp"
#include "ip2p/train/any_learning_rate.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "support/command_line.hpp"

namespace train_editor {

/// Everything that a run depends on; a --config file holds the same names.
struct Options {
  // What is trained on what.
  std::filesystem::path model, data, out;
  bool scan = false, dry_run = false;
  std::string device = "auto", dtype = "auto";
  int threads = 0;
  std::int64_t workers = 2;

  // Pictures.
  ip2p::PairAugmentation augmentation;
  std::filesystem::path cache;

  // The step.
  std::int64_t steps = 10'000, batch = 1024, micro_batch = 32;
  std::string optimiser = "adamw", schedule = "constant", weight = "uniform", prediction = "scheduler";
  double rate = 1e-4, weight_decay = 0.01, clip = 0, ema = 0.9999, min_snr_gamma = 5;
  std::int64_t warmup = 0;
  ip2p::ConditioningDropout dropout;
  std::uint64_t seed = 0;
  bool checkpoint_gradients = false, shard_state = false;
  std::int64_t lora_rank = 0;
  double lora_alpha = 8;

  // What is kept and shown.
  std::int64_t checkpoint_every = 500, log_every = 10, sample_every = 500, samples = 4, sample_steps = 20;
  std::size_t keep = 2;
  double image_scale = 1.5, text_scale = 7.5;
};

inline void add_options(CLI::App& app, Options& o) {
  const auto number = [](double least, double most) { return CLI::Range(least, most); };
  const auto count = [](std::int64_t least) { return CLI::Range(least, std::int64_t{1'000'000'000}); };
  const auto group = [&app](const char* name) { return app.add_option_group(name); };
  app.set_config("--config", "", "file with these options (TOML), like the config.toml that a run leaves in --out");

  auto* what = group("What is trained");
  what->add_option("--model", o.model,
                   "where to start: Stable Diffusion (4 input channels, widened to 8) or an editor (8); a folder or a "
                   ".safetensors file")
      ->required();
  what->add_option("--data", o.data, "pairs: the published layout (seeds.json) or shards (shards.json)")->required();
  what->add_option("--out", o.out, "folder of checkpoints, loss curve, samples and of the trained model")->required();
  what->add_flag("--scan", o.scan, "list the folder of pairs instead of reading seeds.json");
  what->add_flag("--dry-run", o.dry_run, "say what would be done and what memory it takes, and end");
  example::add_device(*what, o.device);
  example::add_dtype(*what, o.dtype);
  example::add_threads(*what, o.threads);
  what->add_option("--workers", o.workers, "threads that prepare batches ahead")
      ->capture_default_str()
      ->check(CLI::Range(0, 256));

  auto* pictures = group("Pictures");
  pictures->add_option("--crop", o.augmentation.crop, "side of the squares")->capture_default_str()->check(count(8));
  pictures->add_option("--resize-smallest", o.augmentation.smallest, "least length of the shorter side")
      ->capture_default_str()
      ->check(count(8));
  pictures->add_option("--resize-largest", o.augmentation.largest, "greatest length of the shorter side")
      ->capture_default_str()
      ->check(count(8));
  pictures
      ->add_option("--resize-shape", o.augmentation.shape,
                   "kept: proportions stay; square: both sides get the length, as in the released program")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, ip2p::PairShape>{{"kept", ip2p::PairShape::kept}, {"square", ip2p::PairShape::square}}))
      ->default_str("kept");
  pictures->add_option("--mirror", o.augmentation.mirror, "share of mirrored pairs")
      ->capture_default_str()
      ->check(number(0, 1));
  pictures->add_option("--cache", o.cache,
                       "keep latents and texts in this folder: each pair is encoded once, as its centre crop");

  auto* step = group("The step");
  step->add_option("--steps", o.steps, "updates")->capture_default_str()->check(count(1));
  step->add_option("--batch", o.batch, "samples an update, of all processes")->capture_default_str()->check(count(1));
  step->add_option("--micro-batch", o.micro_batch, "most samples that a process computes at once")
      ->capture_default_str()
      ->check(count(1));
  step->add_option("--optimiser", o.optimiser)->capture_default_str()->check(CLI::IsMember({"adamw", "adafactor"}));
  step->add_option("--rate", o.rate, "learning rate")->capture_default_str()->check(number(1e-12, 10));
  step->add_option("--schedule", o.schedule, "of the learning rate")
      ->capture_default_str()
      ->check(example::one_of(ip2p::AnyLearningRate::names()));
  step->add_option("--warmup", o.warmup, "updates of a linear rise")->capture_default_str()->check(count(0));
  step->add_option("--weight-decay", o.weight_decay)->capture_default_str()->check(number(0, 1));
  step->add_option("--clip", o.clip, "largest gradient norm, 0 for none")->capture_default_str()->check(number(0, 1e9));
  step->add_option("--ema", o.ema, "decay of the averaged weights")
      ->capture_default_str()
      ->check(number(0, 0.999999999));
  step->add_option("--loss-weight", o.weight, "how much timesteps count")
      ->capture_default_str()
      ->check(CLI::IsMember({"uniform", "min-snr"}));
  step->add_option("--min-snr-gamma", o.min_snr_gamma)->capture_default_str()->check(number(1e-6, 1e6));
  step->add_option("--prediction", o.prediction, "what the network predicts; scheduler: what the model's says")
      ->capture_default_str()
      ->check(CLI::IsMember({"scheduler", "epsilon", "v_prediction", "sample"}));
  step->add_option("--drop-text", o.dropout.text, "share of samples without text")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--drop-both", o.dropout.both, "share without text and picture")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--drop-image", o.dropout.image, "share without picture")
      ->capture_default_str()
      ->check(number(0, 1));
  step->add_option("--seed", o.seed)->capture_default_str()->check(example::whole_number);
  step->add_flag("--gradient-checkpointing", o.checkpoint_gradients,
                 "compute each block twice instead of keeping what it needs");
  step->add_flag("--shard-state", o.shard_state, "each process keeps its share of optimiser state and averages");
  step->add_option("--lora-rank", o.lora_rank, "train a LoRA of this rank in place of the network, 0 for none")
      ->capture_default_str()
      ->check(count(0));
  step->add_option("--lora-alpha", o.lora_alpha)->capture_default_str()->check(number(1e-6, 1e6));

  auto* kept = group("What is kept and shown");
  kept->add_option("--checkpoint-every", o.checkpoint_every, "updates")->capture_default_str()->check(count(1));
  kept->add_option("--keep", o.keep, "checkpoints")->capture_default_str()->check(count(1));
  kept->add_option("--log-every", o.log_every, "updates")->capture_default_str()->check(count(1));
  kept->add_option("--sample-every", o.sample_every, "updates between sheets of sample edits, 0 for none")
      ->capture_default_str()
      ->check(count(0));
  kept->add_option("--samples", o.samples, "pairs of the sheet")->capture_default_str()->check(count(1));
  kept->add_option("--sample-steps", o.sample_steps)->capture_default_str()->check(count(1));
  kept->add_option("--image-scale", o.image_scale, "of the samples")->capture_default_str()->check(number(0, 100));
  kept->add_option("--text-scale", o.text_scale, "of the samples")->capture_default_str()->check(number(0, 100));
}

}  // namespace train_editor
