#include "job.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace studio {

static double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

const char* name_of(State state) {
  switch (state) {
    case State::queued:
      return "queued";
    case State::running:
      return "running";
    case State::done:
      return "done";
    case State::failed:
      return "failed";
    case State::cancelled:
      return "cancelled";
  }
  return "";
}

Job::Job(std::string id_, std::string client_, EditRequest request_, std::shared_ptr<const Photograph> photograph)
    : id(std::move(id_)),
      client(std::move(client_)),
      request(std::move(request_)),
      cells(request.cells()),
      photograph_(std::move(photograph)),
      steps_done_(cells.size()) {
  standing_.steps = request.steps * static_cast<std::int64_t>(cells.size());
  standing_.results.resize(cells.size());
  standing_.previews.resize(cells.size());
}

std::shared_ptr<const Photograph> Job::photograph() const {
  const std::scoped_lock lock(mutex_);
  return photograph_;
}

void Job::begin() {
  const std::scoped_lock lock(mutex_);
  if (standing_.state != State::queued) return;
  standing_.state = State::running;
  begun_ = Clock::now();
  changed();
}

void Job::progress(std::size_t cell, std::int64_t step) {
  const std::scoped_lock lock(mutex_);
  if (standing_.over()) return;
  steps_done_.at(cell) = step;
  standing_.step = std::accumulate(steps_done_.begin(), steps_done_.end(), std::int64_t{0});
  changed();
}

void Job::show(std::size_t cell, std::string preview) {
  const std::scoped_lock lock(mutex_);
  if (standing_.over()) return;
  standing_.previews.at(cell) = {++previews_, std::make_shared<const std::string>(std::move(preview))};
  changed();
}

bool Job::finish(std::size_t cell, Result result) {
  const std::scoped_lock lock(mutex_);
  if (standing_.over()) return false;
  standing_.results.at(cell) = std::make_shared<const Result>(std::move(result));
  standing_.previews.at(cell) = {};
  const auto& results = standing_.results;
  const bool all = std::all_of(results.begin(), results.end(), [](const auto& one) { return one != nullptr; });
  all ? end(State::done) : changed();
  return all;
}

bool Job::fail(const Fault& fault) {
  const std::scoped_lock lock(mutex_);
  if (standing_.over()) return false;
  standing_.fault = fault;
  end(State::failed);
  return true;
}

bool Job::cancel() {
  const std::scoped_lock lock(mutex_);
  if (standing_.over()) return false;
  end(State::cancelled);
  return true;
}

void Job::end(State state) {
  standing_.state = state;
  standing_.previews.assign(cells.size(), {});
  photograph_ = nullptr;
  ended_ = Clock::now();
  changed();
}

void Job::changed() {
  ++standing_.version;
  wake_.notify_all();
}

bool Job::over() const {
  const std::scoped_lock lock(mutex_);
  return standing_.over();
}

Standing Job::copy() const {
  auto now = standing_;
  if (begun_ && now.step > 0 && !now.over()) {
    const auto done = static_cast<double>(now.step), left = static_cast<double>(now.steps - now.step);
    now.seconds_left = seconds_between(*begun_, Clock::now()) / done * left;
  }
  return now;
}

Standing Job::standing() const {
  const std::scoped_lock lock(mutex_);
  return copy();
}

Standing Job::standing(std::uint64_t version, std::chrono::milliseconds patience) const {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, patience, [&] { return standing_.version != version; });
  return copy();
}

std::size_t Job::bytes() const {
  const std::scoped_lock lock(mutex_);
  std::size_t bytes = photograph_ ? photograph_->bytes() : 0;
  for (const auto& result : standing_.results) bytes += result ? result->png.size() : 0;
  return bytes;
}

std::optional<Clock::time_point> Job::ended() const {
  const std::scoped_lock lock(mutex_);
  return ended_;
}

double Job::seconds_waited() const {
  const std::scoped_lock lock(mutex_);
  return begun_ ? seconds_between(accepted, *begun_) : 0;
}

double Job::seconds_run() const {
  const std::scoped_lock lock(mutex_);
  return begun_ && ended_ ? seconds_between(*begun_, *ended_) : 0;
}

nlohmann::ordered_json json_of(const Job& job, std::size_t index, const Result& result) {
  return {{"index", index},
          {"seed", result.cell.seed},
          {"text_scale", result.cell.text_scale},
          {"image_scale", result.cell.image_scale},
          {"width", result.width},
          {"height", result.height},
          {"url", fmt::format("/api/jobs/{}/results/{}", job.id, index)}};
}

nlohmann::ordered_json json_of(const Job& job, const Standing& standing, std::size_t position) {
  using Json = nlohmann::ordered_json;
  Json results = Json::array();
  for (std::size_t i = 0; i < standing.results.size(); ++i) {
    if (standing.results[i]) results.push_back(json_of(job, i, *standing.results[i]));
  }
  return {{"id", job.id},
          {"state", name_of(standing.state)},
          {"position", position},
          {"step", standing.step},
          {"steps", standing.steps},
          {"seconds_left", standing.seconds_left ? Json(*standing.seconds_left) : Json(nullptr)},
          {"results", std::move(results)},
          {"error", standing.fault ? standing.fault->json() : Json(nullptr)}};
}

}  // namespace studio
