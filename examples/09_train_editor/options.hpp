#pragma once

/// \file
/// The command line of train_editor. The defaults are those of the published run.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ip2p/data/augment.hpp"
#include "ip2p/train/dropout.hpp"
#include "support/run_record.hpp"

namespace CLI {
class App;
}

namespace train_editor {

/// Everything a run depends on; a --config file uses the same names.
struct Options {
  // What is trained on what.
  std::filesystem::path model, data, out;
  bool scan = false, dry_run = false, change = false;
  std::string device = "auto", dtype = "auto";
  int threads = 0;
  std::int64_t workers = 2;

  // Pictures.
  ip2p::PairAugmentation augmentation;
  std::string shape = "kept";  ///< How both sides of a picture are resized.
  std::filesystem::path cache;

  // The step.
  std::int64_t steps = 10'000, batch = 1024, micro_batch = 32;
  std::string optimiser = "adamw", schedule = "constant", weight = "uniform", prediction = "scheduler";
  double rate = 1e-4, weight_decay = 0.01, clip = 0, ema = 0.9999, min_snr_gamma = 5;
  std::int64_t warmup = 0;
  ip2p::ConditioningDropout dropout;
  std::uint64_t seed = 0;
  bool checkpoint_gradients = false, shard_state = false, direct_convolution = false;
  std::int64_t lora_rank = 0;
  double lora_alpha = 8;

  // What is kept and shown.
  std::int64_t checkpoint_every = 500, log_every = 10, sample_every = 500, samples = 4, sample_steps = 20;
  std::size_t keep = 2;
  double image_scale = 1.5, text_scale = 7.5;

  // Once the command line is parsed.
  std::string configuration;     ///< All of these as a --config file.
  example::OptionValues values;  ///< All of these by the names of their options.
};

/// Adds the options to `app`; parsing then fills `o`.
void add_options(CLI::App& app, Options& o);

}  // namespace train_editor
