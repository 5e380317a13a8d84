#pragma once

/// \file
/// Ctrl-C as a stop token.

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <stop_token>
#include <string_view>
#include <thread>

#include "ip2p/core/error.hpp"

namespace example {

/// Turns SIGINT and SIGTERM into a stop request; a second signal exits at once, with status 130, unless the program
/// asks for a token for it too.
///
/// The signals are blocked and a thread waits for them, so nothing runs inside a signal handler. Threads inherit
/// the mask: create this before starting any other thread.
class Interrupt {
 public:
  Interrupt() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    watcher_ = std::jthread([this](const std::stop_token& quit) { watch(quit); });
  }

  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// Requests a stop once a signal arrives.
  [[nodiscard]] std::stop_token token() const { return stop_.get_token(); }

  /// For programs that finish what runs when they are asked to stop: requests a stop once a second signal arrives, and
  /// only a third one exits at once.
  [[nodiscard]] std::stop_token second() const {
    takes_second_ = true;
    return second_.get_token();
  }

  /// For work that takes no token. \throws Cancelled once a signal has arrived
  void check() const {
    if (stop_.stop_requested()) throw ip2p::Cancelled("interrupted");
  }

 private:
  void watch(const std::stop_token& quit) {
    const timespec tenth{.tv_sec = 0, .tv_nsec = 100'000'000};
    while (!quit.stop_requested()) {
      if (sigtimedwait(&signals_, nullptr, &tenth) < 0) continue;
      const bool first = !stop_.stop_requested();
      if (!first && (!takes_second_ || second_.stop_requested())) _exit(130);
      const std::string_view note = !first ? "\nstopping after this step\n"
                                    : takes_second_
                                        ? "\nfinishing what runs; press Ctrl-C again to stop it\n"
                                        : "\nstopping after this step; press Ctrl-C again to quit at once\n";
      [[maybe_unused]] const auto written = write(STDERR_FILENO, note.data(), note.size());
      (first ? stop_ : second_).request_stop();
    }
  }

  sigset_t signals_{};
  std::stop_source stop_, second_;
  mutable std::atomic<bool> takes_second_ = false;
  std::jthread watcher_;  // Last, so that it is joined before the members it uses are destroyed.
};

}  // namespace example
