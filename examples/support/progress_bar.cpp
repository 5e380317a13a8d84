#include "progress_bar.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "reporting.hpp"

namespace example {

std::string clock_text(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string rate_text(double steps_per_second) {
  return steps_per_second >= 1 ? fmt::format("{:.2f} it/s", steps_per_second)
                               : fmt::format("{:.2f} s/it", 1 / steps_per_second);
}

ProgressBar::ProgressBar(std::FILE* stream, std::string step)
    : stream_(stream),
      step_(std::move(step)),
      terminal_(isatty(fileno(stream)) == 1),
      begin_(Clock::now()),
      first_(begin_) {}

ProgressBar::~ProgressBar() {
  if (open_line_) std::fputc('\n', stream_);
}

void ProgressBar::operator()(const ip2p::Step& step) {
  if (quiet()) return;
  const auto now = Clock::now();
  const auto done = step.index + 1;
  if (done == 1) first_ = now;
  // The first step includes one-off work, so the rate leaves it out as soon as it can.
  const double seconds = std::chrono::duration<double>(now - (done > 1 ? first_ : begin_)).count();
  const double rate = static_cast<double>(done > 1 ? done - 1 : done) / std::max(seconds, 1e-9);
  const auto left = clock_text(static_cast<double>(step.count - done) / rate);
  if (terminal_) {
    draw(done, step.count, fmt::format(" {}/{}  {}  {} left", done, step.count, rate_text(rate), left));
  } else if (done == 1 || done == step.count || done * 10 / step.count != (done - 1) * 10 / step.count) {
    fmt::print(stream_, "{} {} of {}, {}, {} left\n", step_, done, step.count, rate_text(rate), left);
    std::fflush(stream_);
  }
}

void ProgressBar::draw(std::int64_t done, std::int64_t count, const std::string& text) {
  if (quiet()) return;
  winsize size{};
  const int columns = ioctl(fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  const auto width = std::clamp<std::int64_t>(columns - static_cast<std::int64_t>(text.size()) - 3, 4, 40);
  const auto full = static_cast<std::size_t>(width * done / count);
  // \x1b[K clears what an earlier, longer line left behind.
  fmt::print(stream_, "\r[{}{}]{}\x1b[K", std::string(full, '#'),
             std::string(static_cast<std::size_t>(width) - full, ' '), text);
  std::fflush(stream_);
  open_line_ = done < count;
  if (done == count) std::fputc('\n', stream_);
}

}  // namespace example
