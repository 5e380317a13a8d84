#pragma once

/// \file
/// Settings of a training run, and what it reports.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "ip2p/data/prefetch.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/optimiser.hpp"
#include "ip2p/train/precision.hpp"

namespace ip2p {

/// Settings of a `Trainer`; their type says which optimiser it uses.
///
/// \code
/// ip2p::TrainingOptionsOf<ip2p::Adafactor> options{.folder = "run"};
/// options.optimiser.weight_decay = 0.01;
/// \endcode
template <class Optimiser>
struct TrainingOptionsOf {
  static_assert((require_optimiser_policy<Optimiser>(), true));

  std::filesystem::path folder{};       ///< Checkpoints and loss curve; empty keeps everything in memory.
  std::int64_t checkpoint_every = 500;  ///< Updates between checkpoints.
  std::size_t keep = 2;                 ///< Checkpoints that stay on disk.
  /// Checkpoints are written while training goes on, from a copy of the whole state in host memory. False makes each
  /// update that ends with one wait for the disk, and takes no copy.
  bool asynchronous = true;
  typename Optimiser::Options optimiser{};
  double ema_decay = 0.9999;             ///< Decay of the averages of the weights, in [0, 1); see `ExponentialAverage`.
  double clip_norm = 0.0;                ///< Largest gradient norm; 0 does not clip (InstructPix2Pix).
  std::int64_t largest_bad_streak = 10;  ///< Updates in a row with a loss that is not finite before the run gives up.
  std::int64_t accumulate = 1;           ///< Parts of a process's share of the batch, computed one after another.
  /// Threads that share what a process computes of an update, each with an equal part of its own. Where cores are
  /// shared with other work this uses them better than operators that each wait for their slowest thread, and small
  /// operators, which do not split well, run side by side.
  std::int64_t threads = 1;
  /// Threads that make batches ahead, for a `LossOfBatches`; the numbers are those of a run without them. The loss's
  /// source is then read from several threads.
  PrefetchOptions prefetch{.workers = 0};
  /// Scales the loss, which a forward pass in fp16 needs; set by itself for a loss that says it computes in fp16, as
  /// `DiffusionLoss` does.
  std::optional<LossScalerOptions> loss_scaler{};
  /// Each process keeps optimiser state and averages of its share of the parameters alone (ZeRO, stage 1). The weights
  /// are those of a run without it, bit for bit, and checkpoints fit either.
  bool shard_state = false;
};

/// The published recipe's.
using TrainingOptions = TrainingOptionsOf<AdamW>;

/// What an update reports.
struct TrainingProgress {
  std::int64_t step = 0;       ///< Updates made, this one included.
  double loss = 0.0;           ///< Of the whole batch, on every process.
  double rate = 0.0;           ///< Learning rate used.
  double seconds = 0.0;        ///< Wall time of the run so far, earlier sessions included.
  bool skipped = false;        ///< The update was left out, because its loss or its gradients were not finite.
  double scale = 1.0;          ///< Factor of the loss in the backward pass; 1 without a `LossScaler`.
  std::int64_t overflows = 0;  ///< Updates of the run so far that were left out for their gradients.
};

}  // namespace ip2p
