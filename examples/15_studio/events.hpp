#pragma once

/// \file
/// Follows a job as server-sent events.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "job.hpp"

namespace studio {

/// One event.
std::string event_text(std::string_view name, const nlohmann::ordered_json& data);

/// What a client that follows a job has not been told yet. A client that is slow misses what has been overtaken, such
/// as previews, and never a result or the end.
class Follower {
 public:
  /// \param position says the job's place in the queue
  Follower(std::shared_ptr<const Job> job, std::function<std::size_t(const std::string&)> position)
      : job_(std::move(job)), position_(std::move(position)) {}

  /// Waits up to `patience` for something new. \return events, which may be none; nothing after the last one
  [[nodiscard]] std::optional<std::string> next(std::chrono::milliseconds patience);

 private:
  std::shared_ptr<const Job> job_;
  std::function<std::size_t(const std::string&)> position_;
  bool begun_ = false, ended_ = false;
  std::uint64_t version_ = 0, preview_ = 0;
  State state_ = State::queued;
  std::size_t told_position_ = 0;
  std::int64_t step_ = 0;
  std::vector<bool> told_;  // of the results
  Clock::time_point spoke_ = Clock::now();
};

}  // namespace studio
