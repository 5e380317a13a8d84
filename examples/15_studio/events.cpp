#include "events.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace studio {

using Json = nlohmann::ordered_json;

std::string event_text(std::string_view name, const Json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, data.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::optional<std::string> Follower::next(std::chrono::milliseconds patience) {
  constexpr auto silence = std::chrono::seconds(15);
  if (ended_) return {};
  const auto now = begun_ ? job_->standing(version_, patience) : job_->standing();
  told_.resize(now.results.size());
  std::string text;
  const auto position = now.state == State::queued ? position_(job_->id) : 0;
  if (!begun_ || now.state != state_ || position != told_position_) {
    text += event_text("state", {{"id", job_->id}, {"state", name_of(now.state)}, {"position", position}});
  }
  if (now.step != step_) {
    text += event_text("progress", {{"step", now.step},
                                    {"steps", now.steps},
                                    {"seconds_left", now.seconds_left ? Json(*now.seconds_left) : Json(nullptr)}});
  }
  auto latest = preview_;
  for (std::size_t i = 0; i < now.previews.size(); ++i) {
    const auto& preview = now.previews[i];
    latest = std::max(latest, preview.number);
    if (preview.number > preview_) text += event_text("preview", {{"index", i}, {"image", *preview.url}});
  }
  for (std::size_t i = 0; i < now.results.size(); ++i) {
    if (!now.results[i] || told_[i]) continue;
    text += event_text("result", json_of(*job_, i, *now.results[i]));
    told_[i] = true;
  }
  if (now.over()) {
    text += event_text(name_of(now.state), json_of(*job_, now, 0));
    ended_ = true;
  }
  begun_ = true;
  version_ = now.version;
  state_ = now.state;
  told_position_ = position;
  step_ = now.step;
  preview_ = latest;
  if (text.empty() && Clock::now() - spoke_ >= silence) text = ": still here\n\n";
  if (!text.empty()) spoke_ = Clock::now();
  return text;
}

}  // namespace studio
