#pragma once

/// \file
/// A training run. Its methods are defined in two units, because together they are much to compile.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/data/any_picture_pairs.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/parallel/environment.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/train/loss_curve.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/unet/unet.hpp"
#include "options.hpp"
#include "pairs.hpp"
#include "support/interrupt.hpp"

namespace ip2p {
class ProcessGroup;
}

namespace train_editor {

using TextEncoder = ip2p::CachedTextEncoder<ip2p::ClipTextEncoder>;

/// A run and everything it needs, as seen by one of its processes.
class Training {
 public:
  /// \param processes that `place` is among; kept by reference
  Training(Options o, const ip2p::ProcessPlace& place, const ip2p::ProcessGroup& processes);

  /// Trains. \return the program's status
  int operator()(const example::Interrupt& interrupt);

 private:
  [[nodiscard]] ip2p::AnyPicturePairs open_pairs(ip2p::PairSplit split) const;

  /// Autoencoder and text encoder are not trained; fp16 is too narrow for the former's activations.
  [[nodiscard]] at::ScalarType frozen_dtype() const { return dtype_ == at::kHalf ? at::kFloat : dtype_; }

  [[nodiscard]] std::string checksum(const char* component) const;

  [[nodiscard]] bool speaks() const { return place_.rank == 0; }

  void describe() const;

  /// Bytes that an optimiser keeps for these parameters; nothing is allocated.
  template <class Optimiser>
  [[nodiscard]] double state_bytes() const;

  [[nodiscard]] const char* dtype_name() const {
    return dtype_ == at::kFloat ? "fp32" : dtype_ == at::kHalf ? "fp16" : "bf16";
  }

  template <class Optimiser>
  int train(const example::Interrupt& interrupt);

  /// Prints a progress line at intervals.
  class Report;

  /// Rows of before, after and our result, always for the same pairs and noise.
  void write_samples(std::int64_t step);

  /// The validation split, or the training pictures if it is empty.
  const ip2p::AnyPicturePairs& validation();

  /// What other programs open: a model folder, or the LoRA.
  void write_model();

  void finish(const std::vector<ip2p::LossPoint>& points, std::int64_t step, bool complete) const;

  Options o_;
  ip2p::ProcessPlace place_;
  const ip2p::ProcessGroup& processes_;
  at::Device device_;
  at::ScalarType dtype_;
  ip2p::ModelFiles files_;
  ip2p::SchedulerConfig scheduler_;
  ip2p::AnyPicturePairs pictures_;
  std::optional<ip2p::AnyPicturePairs> validation_;
  ip2p::KlAutoencoder codec_;
  TextEncoder text_;
  Pairs pairs_;
  ip2p::UNet unet_;
  std::optional<ip2p::AppliedLora> lora_;
  ip2p::Parameters parameters_;
  std::int64_t accumulate_ = 1;
};

}  // namespace train_editor
