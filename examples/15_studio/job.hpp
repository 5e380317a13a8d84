#pragma once

/// \file
/// A job: what was asked for, and where it stands.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "edit_request.hpp"
#include "editor.hpp"
#include "fault.hpp"

namespace studio {

using Clock = std::chrono::steady_clock;

enum class State { queued, running, done, failed, cancelled };

/// Its name in the interface.
const char* name_of(State state);

/// A result, as it is sent.
struct Result {
  Cell cell = {};
  std::int64_t width = 0, height = 0;
  std::string png = {};
};

/// What a result looks like so far.
struct Preview {
  std::uint64_t number = 0;                ///< Of previews of the job, which tells new ones from old ones; 0: none.
  std::shared_ptr<const std::string> url;  ///< A data URL.
};

/// A job at one moment.
struct Standing {
  std::uint64_t version = 0;  ///< Changes with everything else.
  State state = State::queued;
  std::int64_t step = 0, steps = 0;
  std::optional<double> seconds_left;
  std::vector<std::shared_ptr<const Result>> results;  ///< One a cell; null where there is none yet.
  std::vector<Preview> previews;                       ///< The latest, one a cell.
  std::optional<Fault> fault;

  [[nodiscard]] bool over() const { return state != State::queued && state != State::running; }
};

/// A job. Its state is changed and read by any thread; once it is over, it stays as it is.
class Job {
 public:
  Job(std::string id, std::string client, EditRequest request, std::shared_ptr<const Photograph> photograph);

  const std::string id, client;
  const EditRequest request;
  const std::vector<Cell> cells;
  const Clock::time_point accepted = Clock::now();

  /// Null once the job is over, which frees it.
  [[nodiscard]] std::shared_ptr<const Photograph> photograph() const;

  void begin();                                        ///< A result is worked on.
  void progress(std::size_t cell, std::int64_t step);  ///< Steps of a result that are done.
  void show(std::size_t cell, std::string preview);    ///< What it looks like so far, a data URL.
  /// A result is there; with the last one, the job is done. As the next ones, \return whether this ended the job.
  bool finish(std::size_t cell, Result result);
  bool fail(const Fault& fault);
  bool cancel();

  [[nodiscard]] bool over() const;
  [[nodiscard]] Standing standing() const;
  /// The same, once it is another than `version` or after `patience`.
  [[nodiscard]] Standing standing(std::uint64_t version, std::chrono::milliseconds patience) const;
  [[nodiscard]] std::size_t bytes() const;  ///< Of memory, of photograph and results.
  /// When it was over; nothing before.
  [[nodiscard]] std::optional<Clock::time_point> ended() const;
  /// Seconds from its acceptance to its first step, and from there to its end; 0 for what has not come.
  [[nodiscard]] double seconds_waited() const;
  [[nodiscard]] double seconds_run() const;

 private:
  void end(State state);
  void changed();
  [[nodiscard]] Standing copy() const;

  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  std::shared_ptr<const Photograph> photograph_;
  Standing standing_;
  std::vector<std::int64_t> steps_done_;  // one a cell
  std::uint64_t previews_ = 0;
  std::optional<Clock::time_point> begun_, ended_;
};

/// As `GET /api/jobs/ID` has it. \param position in the queue
nlohmann::ordered_json json_of(const Job& job, const Standing& standing, std::size_t position);

/// One result in it.
nlohmann::ordered_json json_of(const Job& job, std::size_t index, const Result& result);

}  // namespace studio
