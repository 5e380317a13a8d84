#include "job_store.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"

namespace studio {

std::string JobStore::new_id() {
  std::array<unsigned char, 16> bytes{};
  ip2p::require(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
                "the system gives no random numbers");
  std::string id;
  for (const auto byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

void JobStore::add(std::shared_ptr<Job> job) {
  const std::scoped_lock lock(mutex_);
  auto id = job->id;
  jobs_.emplace(std::move(id), std::move(job));
}

void JobStore::remove(const std::string& id) {
  const std::scoped_lock lock(mutex_);
  jobs_.erase(id);
}

std::shared_ptr<Job> JobStore::find(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : found->second;
}

void JobStore::sweep(Clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(jobs_, [&](const auto& entry) {
    const auto ended = entry.second->ended();
    return ended && std::chrono::duration<double>(now - *ended).count() > seconds_kept_;
  });
  drop_until(memory_);
}

bool JobStore::make_room(std::size_t more) {
  if (more > memory_) return false;
  const std::scoped_lock lock(mutex_);
  drop_until(memory_ - more);
  return bytes_locked() + more <= memory_;
}

std::vector<std::shared_ptr<Job>> JobStore::all() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : jobs_) jobs.push_back(job);
  return jobs;
}

std::size_t JobStore::bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_locked();
}

std::size_t JobStore::bytes_locked() const {
  std::size_t bytes = 0;
  for (const auto& [id, job] : jobs_) bytes += job->bytes();
  return bytes;
}

void JobStore::drop_until(std::size_t most) {
  auto bytes = bytes_locked();
  if (bytes <= most) return;
  std::vector<std::pair<Clock::time_point, std::string>> over;
  for (const auto& [id, job] : jobs_) {
    if (const auto ended = job->ended()) over.emplace_back(*ended, id);
  }
  std::sort(over.begin(), over.end());
  for (const auto& [ended, id] : over) {
    if (bytes <= most) return;
    bytes -= std::min(bytes, jobs_.at(id)->bytes());
    jobs_.erase(id);
  }
}

}  // namespace studio
