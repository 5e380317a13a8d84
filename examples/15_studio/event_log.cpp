#include "event_log.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <string>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/printable.hpp"

namespace studio {

using Json = nlohmann::ordered_json;

void log_to_stderr(const std::string& line) {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  fmt::print(stderr, "{}\n", line);
}

std::string log_line(const char* event, const Json& values) {
  const auto now = std::chrono::system_clock::now();
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  Json line{
      {"time", fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds)},
      {"event", event}};
  line.update(values);
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json log_values(const Job& job, bool with_prompts) {
  const auto standing = job.standing();
  const auto made = std::count_if(standing.results.begin(), standing.results.end(),
                                  [](const auto& result) { return result != nullptr; });
  Json values{{"job", job.id.substr(0, 8)},       {"client", job.client},
              {"state", name_of(standing.state)}, {"results", made},
              {"steps", standing.step},           {"seconds_waited", job.seconds_waited()},
              {"seconds_run", job.seconds_run()}};
  if (standing.fault) {
    values["code"] = standing.fault->code();
    values["error"] = standing.fault->what();
  }
  if (with_prompts) {
    values["instruction"] = job.request.instruction;
    if (!job.request.negative.empty()) values["negative"] = job.request.negative;
  }
  return values;
}

std::string path_for_log(const std::string& path) {
  auto shown = ip2p::detail::printable(path);
  constexpr std::size_t digits = 32, kept = 8;
  const auto is_digit = [](unsigned char c) { return std::isxdigit(c) != 0; };
  for (std::size_t i = 0; i + digits <= shown.size(); ++i) {
    if (!std::all_of(shown.begin() + static_cast<std::ptrdiff_t>(i),
                     shown.begin() + static_cast<std::ptrdiff_t>(i + digits), is_digit)) {
      continue;
    }
    shown.erase(i + kept, digits - kept);
  }
  return shown;
}

}  // namespace studio
