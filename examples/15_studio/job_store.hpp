#pragma once

/// \file
/// The jobs that can be asked for.

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "job.hpp"

namespace studio {

/// Keeps jobs until some time after their end, or until there are too many bytes of them.
class JobStore {
 public:
  /// \param memory bytes of photographs and results  \param seconds_kept after a job's end
  JobStore(std::size_t memory, double seconds_kept) : memory_(memory), seconds_kept_(seconds_kept) {}

  /// An identifier that nobody guesses.
  static std::string new_id();

  void add(std::shared_ptr<Job> job);
  void remove(const std::string& id);

  /// Null for a job that is unknown or has expired.
  [[nodiscard]] std::shared_ptr<Job> find(const std::string& id) const;

  /// Forgets what has expired, and, oldest first, jobs that are over while there are too many bytes.
  void sweep(Clock::time_point now = Clock::now());

  /// Forgets jobs that are over until `more` bytes fit. \return whether they do
  bool make_room(std::size_t more);

  [[nodiscard]] std::vector<std::shared_ptr<Job>> all() const;
  [[nodiscard]] std::size_t bytes() const;

 private:
  [[nodiscard]] std::size_t bytes_locked() const;
  void drop_until(std::size_t most);

  std::size_t memory_;
  double seconds_kept_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Job>> jobs_;
};

}  // namespace studio
