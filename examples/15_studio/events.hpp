#pragma once

/// \file
/// Follows a job as server-sent events.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "job.hpp"

namespace studio {

/// One event.
std::string event_text(std::string_view name, const nlohmann::ordered_json& data);

/// What a client that follows a job has not been told yet. A client that is slow misses what has been overtaken, such
/// as previews, and never a result or the end. In which words it is told is a matter of the interface.
class Follower {
 public:
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  virtual ~Follower() = default;

  /// Waits up to `patience` for something new. \return events, which may be none; nothing after the last one
  [[nodiscard]] std::optional<std::string> next(std::chrono::milliseconds patience);

 protected:
  explicit Follower(std::shared_ptr<const Job> job);
  [[nodiscard]] const Job& job() const { return *job_; }

 private:
  /// Events that come before those of pictures.
  virtual std::string standing_text(const Standing&) { return {}; }
  virtual std::string preview_text(std::size_t cell, const Preview& preview) = 0;
  virtual std::string result_text(std::size_t cell, const Result& result) = 0;
  /// Events with which the stream ends, of a job that is over.
  [[nodiscard]] virtual std::string end_text(const Standing& standing) const = 0;

  std::shared_ptr<const Job> job_;
  bool begun_ = false, ended_ = false;
  std::uint64_t version_ = 0, preview_ = 0;
  std::vector<bool> told_;  // of the results
  Clock::time_point spoke_ = Clock::now();
};

/// Follows a job in the words of the service's own interface.
class PageEvents final : public Follower {
 public:
  /// \param position says the job's place in the queue
  PageEvents(std::shared_ptr<const Job> job, std::function<std::size_t(const std::string&)> position)
      : Follower(std::move(job)), position_(std::move(position)) {}

 private:
  std::string standing_text(const Standing& standing) override;
  std::string preview_text(std::size_t cell, const Preview& preview) override;
  std::string result_text(std::size_t cell, const Result& result) override;
  [[nodiscard]] std::string end_text(const Standing& standing) const override;

  std::function<std::size_t(const std::string&)> position_;
  std::optional<std::pair<State, std::size_t>> said_;  // the state and the place in the queue
  std::int64_t step_ = 0;
};

}  // namespace studio
