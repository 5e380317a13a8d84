#pragma once

/// \file
/// Counters of a training run, which checkpoints store beside its tensors.

#include <nlohmann/json.hpp>

#include <cstdint>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_whole.hpp"
#include "ip2p/train/checkpoint.hpp"

namespace ip2p {

/// Progress of a run.
struct RunCounters {
  std::int64_t step = 0;          ///< Updates made.
  std::int64_t ema_updates = 0;   ///< Updates of the averages.
  double seconds = 0.0;           ///< Wall time.
  double loss_scale = 0.0;        ///< Of the `LossScaler`; 0 without one.
  std::int64_t good_updates = 0;  ///< Of the `LossScaler`.
  std::int64_t overflows = 0;     ///< Updates skipped because gradients overflowed.

  /// The value of `Checkpoint::state`; the step is stored separately.
  [[nodiscard]] nlohmann::json state() const {
    nlohmann::json state{{"ema_updates", ema_updates}, {"seconds", seconds}};
    if (loss_scale > 0.0) {
      state["loss_scaler"] = {{"scale", loss_scale}, {"good_updates", good_updates}, {"overflows", overflows}};
    }
    return state;
  }

  /// \throws Error when the state lacks a number
  static RunCounters of(const Checkpoint& checkpoint) {
    try {
      RunCounters counters;
      counters.step = checkpoint.step;
      counters.ema_updates = detail::json_whole<std::int64_t>(checkpoint.state.at("ema_updates"));
      counters.seconds = checkpoint.state.at("seconds").get<double>();
      if (const auto scaler = checkpoint.state.find("loss_scaler"); scaler != checkpoint.state.end()) {
        counters.loss_scale = scaler->at("scale").get<double>();
        counters.good_updates = detail::json_whole<std::int64_t>(scaler->at("good_updates"));
        counters.overflows = detail::json_whole<std::int64_t>(scaler->at("overflows"));
      }
      return counters;
    } catch (const nlohmann::json::exception& error) {
      throw_error("checkpoint of step {}: {}", checkpoint.step, error.what());
    }
  }

  /// All counters as numbers, to send between processes; `from_numbers` is the inverse.
  [[nodiscard]] std::vector<double> numbers() const {
    const auto number = [](std::int64_t count) { return static_cast<double>(count); };
    return {number(step), number(ema_updates), seconds, loss_scale, number(good_updates), number(overflows)};
  }

  /// From what `numbers` gave.
  static RunCounters from_numbers(const std::vector<double>& numbers) {
    const auto count = [&](std::size_t i) { return static_cast<std::int64_t>(numbers.at(i)); };
    return {count(0), count(1), numbers.at(2), numbers.at(3), count(4), count(5)};
  }
};

}  // namespace ip2p
