#include "runner.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base64.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/picture_settings.hpp"

namespace studio {

static Fault stopped() { return {503, "stopping", "the service is stopping"}; }

Runner::Runner(Editor& editor, const Limits& limits, std::int64_t batch, RunnerEvents events)
    : editor_(editor), batch_(batch), events_(std::move(events)), queue_(limits.queue, limits.jobs) {
  thread_ = std::thread([this] { work(); });
}

Runner::~Runner() {
  stop();
  abort();
  thread_.join();
}

static void require_room(Room room) {
  if (room == Room::queue_full) throw Fault(429, "queue_full", "the queue is full; try again later");
  if (room == Room::client_full) {
    throw Fault(429, "queue_full", "as many of your jobs wait as may; try again when one of them is done");
  }
}

void Runner::check_room(const std::string& client) const {
  if (stopping_) throw stopped();
  const std::scoped_lock lock(mutex_);
  require_room(queue_.room(client));
}

void Runner::submit(const std::shared_ptr<Job>& job) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < job->cells.size(); ++i) tasks.push_back({job, i, job->photograph()});
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) throw stopped();
    require_room(queue_.push(job->client, job->id, std::move(tasks)));
    std::erase_if(queued_, [&](const auto& other) { return !other.lock() || !queue_.position(other.lock()->id); });
    queued_.push_back(job);
  }
  wake_.notify_one();
}

void Runner::cancel(Job& job) {
  {
    const std::scoped_lock lock(mutex_);
    queue_.remove(job.id);
  }
  if (job.cancel()) tell_over(job);
}

std::size_t Runner::position(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  return queue_.position(id).value_or(0);
}

std::size_t Runner::waiting() const {
  const std::scoped_lock lock(mutex_);
  return queue_.size();
}

void Runner::stop() {
  std::vector<std::shared_ptr<Job>> waiting;
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_.exchange(true)) return;
    for (const auto& queued : queued_) {
      auto job = queued.lock();
      if (job && job->standing().state == State::queued && queue_.remove(job->id)) waiting.push_back(std::move(job));
    }
  }
  for (const auto& job : waiting) fail(*job, stopped());
  wake_.notify_one();
}

void Runner::abort() {
  aborting_ = true;
  wake_.notify_one();
}

void Runner::tell_over(const Job& job) {
  if (events_.over) events_.over(job);
}

void Runner::fail(Job& job, const Fault& fault) {
  {
    const std::scoped_lock lock(mutex_);
    queue_.remove(job.id);
  }
  if (job.fail(fault)) tell_over(job);
}

void Runner::work() {
  while (true) {
    std::vector<Task> tasks;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return !queue_.empty() || stopping_; });
      if (queue_.empty()) break;
      tasks = queue_.take(static_cast<std::size_t>(batch_),
                          [](const Task& a, const Task& b) { return same_batch(a.edit(), b.edit()); });
      for (const auto& task : tasks) task.job->begin();  // under the lock, so that it is seen as queued or as running
    }
    run(std::move(tasks));
  }
  finished_ = true;
}

void Runner::run(std::vector<Task> tasks) {
  std::erase_if(tasks, [](const Task& task) { return task.job->over(); });
  if (tasks.empty()) return;
  try {
    edit(tasks);
  } catch (const ip2p::Cancelled&) {
    for (const auto& task : tasks) cancel(*task.job);
  } catch (...) {
    if (tasks.size() == 1) return fail(*tasks.front().job, fault_of(std::current_exception()));
    // One of them may be to blame, or memory is too small for all. What is done is done.
    std::erase_if(tasks, [](const Task& task) {
      const auto standing = task.job->standing();
      return standing.over() || standing.results[task.cell] != nullptr;
    });
    const auto middle = tasks.begin() + static_cast<std::ptrdiff_t>((tasks.size() + 1) / 2);
    std::vector<Task> second(std::make_move_iterator(middle), std::make_move_iterator(tasks.end()));
    tasks.erase(middle, tasks.end());
    run(std::move(tasks));
    run(std::move(second));
  }
}

void Runner::edit(const std::vector<Task>& tasks) {
  std::vector<Edit> edits;
  for (const auto& task : tasks) edits.push_back(task.edit());
  const Watch watch{
      .wanted = [&](std::size_t i) { return !aborting_ && !tasks[i].job->over(); },
      .step =
          [&](std::size_t i, std::int64_t step) {
            ++counts_.steps;
            tasks[i].job->progress(tasks[i].cell, step);
          },
      .preview =
          [&](std::size_t i, const ip2p::Image& picture) {
            const auto jpeg = ip2p::encode_image(picture, ip2p::ImageFormat::jpeg, 80);
            tasks[i].job->show(tasks[i].cell, "data:image/jpeg;base64," + base64(jpeg));
          },
  };
  ++counts_.batches;
  counts_.running = edits.size();
  struct Idle {
    RunnerCounts& counts;
    ~Idle() { counts.running = 0; }
  } const idle{counts_};
  auto made = editor_.edit(edits, watch);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!made[i] || tasks[i].job->over()) continue;
    try {
      finish(tasks[i], *std::move(made[i]));
    } catch (...) {
      fail(*tasks[i].job, fault_of(std::current_exception()));
    }
  }
}

void Runner::finish(const Task& task, Edited made) {
  auto& job = *task.job;
  const auto file = ip2p::with_settings(ip2p::encode_image(made.picture, ip2p::ImageFormat::png), made.settings);
  Result result{.cell = job.cells[task.cell],
                .width = made.picture.width,
                .height = made.picture.height,
                .png = std::string(reinterpret_cast<const char*>(file.data()), file.size())};
  if (events_.result) events_.result(job, task.cell, result);
  ++counts_.results;
  if (job.finish(task.cell, std::move(result))) tell_over(job);
}

}  // namespace studio
