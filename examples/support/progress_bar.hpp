#pragma once

/// \file
/// Progress of a run: a bar that redraws itself on a terminal, a few plain lines anywhere else.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "ip2p/core/step.hpp"

namespace example {

/// "0:07", "12:34" or "1:02:03".
std::string clock_text(double seconds);

/// "3.21 it/s", or "4.56 s/it" for slow steps.
std::string rate_text(double steps_per_second);

/// Reports the steps of a run to `stream`, unless --quiet was given.
class ProgressBar {
 public:
  /// \param step what a step is called: "step 3 of 10"
  explicit ProgressBar(std::FILE* stream, std::string step = "step");
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Leaves the cursor on a fresh line, even when a run ends early.
  ~ProgressBar();

  /// Call after each step.
  void operator()(const ip2p::Step& step);

  /// Whether the bar can redraw itself.
  [[nodiscard]] bool on_terminal() const { return terminal_; }

  /// Draws the bar on a terminal, with `text` behind it; ends the line where all is done.
  void draw(std::int64_t done, std::int64_t count, const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* stream_;
  std::string step_;
  bool terminal_;
  bool open_line_ = false;
  Clock::time_point begin_, first_;
};

}  // namespace example
