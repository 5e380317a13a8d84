#pragma once

/// \file
/// Carries out jobs: one batch at a time, of what may be computed together.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "editor.hpp"
#include "fair_queue.hpp"
#include "job.hpp"
#include "limits.hpp"

namespace studio {

/// What the runner tells others. All are called by its thread or by the one that cancels.
struct RunnerEvents {
  std::function<void(const Job&, std::size_t cell, const Result&)> result =
      {};                                     ///< Made, and not given to the job yet.
  std::function<void(const Job&)> over = {};  ///< Once for each job.
};

/// Numbers for /metrics.
struct RunnerCounts {
  std::atomic<std::uint64_t> batches = 0, results = 0, steps = 0;
  std::atomic<std::uint64_t> running = 0;  ///< Results in the batch that runs.
};

/// Has the queue, and a thread that works on it.
class Runner {
 public:
  /// \param batch results that are computed together
  Runner(Editor& editor, const Limits& limits, std::int64_t batch, RunnerEvents events);
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner();

  /// \throws Fault where the queue is full, the client has its share of it, or the service stops
  void check_room(const std::string& client) const;
  /// Queues a job. \throws Fault as `check_room`
  void submit(const std::shared_ptr<Job>& job);
  /// Ends a job: what waits leaves the queue, what runs leaves the batch at the next step.
  void cancel(Job& job);
  /// Jobs that are served before this one; 0 for one that does not wait.
  [[nodiscard]] std::size_t position(const std::string& id) const;
  [[nodiscard]] std::size_t waiting() const;
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] const RunnerCounts& counts() const { return counts_; }

  /// Takes no more jobs; those that wait fail, those that run are finished.
  void stop();
  /// Cancels those that run, too.
  void abort();
  /// Whether all work is done after `stop`.
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  struct Task {
    std::shared_ptr<Job> job;
    std::size_t cell = 0;
    std::shared_ptr<const Photograph> photograph;

    [[nodiscard]] Edit edit() const { return {photograph, &job->request, job->cells[cell]}; }
  };

  void work();
  void run(std::vector<Task> tasks);
  void edit(const std::vector<Task>& tasks);
  void finish(const Task& task, Edited made);
  /// Tells that a job is over, once.
  void tell_over(const Job& job);
  void fail(Job& job, const Fault& fault);

  Editor& editor_;
  std::int64_t batch_;
  RunnerEvents events_;
  RunnerCounts counts_;
  std::atomic<bool> stopping_ = false, aborting_ = false, finished_ = false;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  FairQueue<Task> queue_;
  std::vector<std::weak_ptr<Job>> queued_;  // of the jobs in the queue
  std::thread thread_;
};

}  // namespace studio
