#include "events.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace studio {

using Json = nlohmann::ordered_json;

std::string event_text(std::string_view name, const Json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, data.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Follower::Follower(std::shared_ptr<const Job> job) : job_(std::move(job)), told_(job_->cells.size()) {}

std::optional<std::string> Follower::next(std::chrono::milliseconds patience) {
  constexpr auto silence = std::chrono::seconds(15);
  if (ended_) return {};
  const auto now = begun_ ? job_->standing(version_, patience) : job_->standing();
  std::string text = standing_text(now);
  auto latest = preview_;
  for (std::size_t i = 0; i < now.previews.size(); ++i) {
    if (now.previews[i].number <= preview_) continue;
    latest = std::max(latest, now.previews[i].number);
    text += preview_text(i, now.previews[i]);
  }
  for (std::size_t i = 0; i < now.results.size(); ++i) {
    if (!now.results[i] || told_[i]) continue;
    text += result_text(i, *now.results[i]);
    told_[i] = true;
  }
  if (now.over()) {
    text += end_text(now);
    ended_ = true;
  }
  begun_ = true;
  version_ = now.version;
  preview_ = latest;
  if (text.empty() && Clock::now() - spoke_ >= silence) text = ": still here\n\n";
  if (!text.empty()) spoke_ = Clock::now();
  return text;
}

std::string PageEvents::standing_text(const Standing& standing) {
  std::string text;
  const std::pair state(standing.state, standing.state == State::queued ? position_(job().id) : 0);
  if (said_ != state) {
    text += event_text("state", {{"id", job().id}, {"state", name_of(state.first)}, {"position", state.second}});
  }
  if (standing.step != step_) {
    text += event_text("progress",
                       {{"step", standing.step},
                        {"steps", standing.steps},
                        {"seconds_left", standing.seconds_left ? Json(*standing.seconds_left) : Json(nullptr)}});
  }
  said_ = state;
  step_ = standing.step;
  return text;
}

std::string PageEvents::preview_text(std::size_t cell, const Preview& preview) {
  return event_text("preview", {{"index", cell}, {"image", *preview.url}});
}

std::string PageEvents::result_text(std::size_t cell, const Result& result) {
  return event_text("result", json_of(job(), cell, result));
}

std::string PageEvents::end_text(const Standing& standing) const {
  return event_text(name_of(standing.state), json_of(job(), standing, 0));
}

}  // namespace studio
