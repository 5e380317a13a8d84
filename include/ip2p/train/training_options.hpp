#pragma once

/// \file
/// Settings of a training run, and its progress reports.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "ip2p/data/prefetch.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/optimiser.hpp"
#include "ip2p/train/precision.hpp"

namespace ip2p {

/// Settings of a `Trainer`; the type selects the optimiser.
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
  /// Write checkpoints while training continues, from a copy of the whole state in host memory. If false, no copy is
  /// made, and training waits for the disk.
  bool asynchronous = true;
  typename Optimiser::Options optimiser{};
  double ema_decay = 0.9999;             ///< Decay of the averages of the weights, in [0, 1); see `ExponentialAverage`.
  double clip_norm = 0.0;                ///< Largest gradient norm; 0 does not clip (InstructPix2Pix).
  std::int64_t largest_bad_streak = 10;  ///< Consecutive bad updates before the run gives up; see `advance()`.
  std::int64_t accumulate = 1;           ///< Parts of each process's share of the batch, computed in sequence.
  /// Threads among which a process splits each update, in equal parts. On a machine with other load this uses the cores
  /// better than multithreaded operators, each of which waits for its slowest thread, and small operators, which
  /// parallelise badly, run side by side.
  std::int64_t threads = 1;
  /// Threads that prefetch batches, for a `LossOfBatches`. They do not change any result, but read the loss's source
  /// from several threads.
  PrefetchOptions prefetch{.workers = 0};
  /// Loss scaling, which a forward pass in fp16 needs. Set automatically for a loss that reports fp16, as
  /// `DiffusionLoss` does.
  std::optional<LossScalerOptions> loss_scaler{};
  /// Each process keeps optimiser state and averages only for its share of the parameters (ZeRO, stage 1). Weights are
  /// bit for bit those of a run without it, and checkpoints are interchangeable.
  bool shard_state = false;
};

/// Settings with AdamW, the published recipe's optimiser.
using TrainingOptions = TrainingOptionsOf<AdamW>;

/// Report of one update.
struct TrainingProgress {
  std::int64_t step = 0;       ///< Updates made, this one included.
  double loss = 0.0;           ///< Of the whole batch, on every process.
  double rate = 0.0;           ///< Learning rate used.
  double seconds = 0.0;        ///< Wall time of the run so far, earlier sessions included.
  bool skipped = false;        ///< The update was skipped because its loss or gradients were not finite.
  double scale = 1.0;          ///< Loss scale; 1 without a `LossScaler`.
  std::int64_t overflows = 0;  ///< Updates so far that were skipped because gradients overflowed.
};

}  // namespace ip2p
