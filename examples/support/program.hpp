#pragma once

/// \file
/// What the programs share: reporting, writing all files or none, exit statuses.

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command_line.hpp"
#include "interrupt.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "progress_bar.hpp"

namespace example {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Checks the outputs before the work rather than after it.
inline void check_folders(std::initializer_list<const std::filesystem::path*> outputs) {
  for (const auto* path : outputs) {
    if (path->empty()) continue;
    const auto folder = path->has_parent_path() ? path->parent_path() : std::filesystem::path(".");
    ip2p::require(std::filesystem::is_directory(folder), "{}: expected a folder to write into, found none",
                  folder.string());
    ip2p::require(access(folder.c_str(), W_OK) == 0, "{}: no permission to write into this folder", folder.string());
    ip2p::require(!std::filesystem::is_directory(*path), "{}: expected the name of a file, found a folder",
                  path->string());
  }
}

/// Prints a prompt's token count, and warns about text that does not fit.
/// \param tokens of the whole prompt  \param limit tokens that the model reads  \param dropped the text beyond them
inline void report_prompt(std::string_view name, std::int64_t tokens, std::int64_t limit, std::string_view dropped) {
  fmt::print("{}: {} token{}\n", name, tokens, tokens == 1 ? "" : "s");
  if (tokens > limit) {
    fmt::print(stderr, "warning: {}: only the first {} of {} tokens count; dropped: \"{}\"\n", name, limit, tokens,
               dropped);
  }
}

inline std::string gibibytes(double bytes) { return fmt::format("{:.2f} GiB", bytes / (1 << 30)); }

inline void report_memory(at::Device device) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print("peak memory: {}", gibibytes(static_cast<double>(usage.ru_maxrss) * 1024));
  if (device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    const auto total = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    fmt::print(", {} on {}", gibibytes(static_cast<double>(stats.reserved_bytes[total].peak)), device.str());
  }
  fmt::print("\n");
}

/// Hooks that draw a progress bar and stop on Ctrl-C.
inline ip2p::RunHooks watched(ProgressBar& bar, const Interrupt& interrupt) {
  ip2p::RunHooks hooks;
  hooks.stop = interrupt.token();
  hooks.on_step = [&bar](const ip2p::Step& step, const at::Tensor&) { bar(step); };
  return hooks;
}

/// Writes all of a run's files, or none.
class Outputs {
 public:
  template <class Write>
  void add(const std::filesystem::path& path, Write&& write) {
    write();
    written_.push_back(path);
  }
  void keep() { written_.clear(); }
  Outputs() = default;
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  ~Outputs() {
    std::error_code ignored;
    for (const auto& path : written_) std::filesystem::remove(path, ignored);
  }

 private:
  std::vector<std::filesystem::path> written_;
};

/// Parses the command line and runs the program; a failure prints one line and sets the exit status.
/// \param run called with the `Interrupt`; returns the status
template <class Run>
int run_program(std::string_view name, CLI::App& app, int argc, char** argv, Run&& run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  const auto report = [name](std::string_view message) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}\n", name, message);
    return 1;
  };
  try {
    const Interrupt interrupt;
    return ip2p::with_memory_advice([&] { return run(interrupt); });
  } catch (const ip2p::Cancelled& cancelled) {
    report(fmt::format("{}; nothing was written", cancelled.what()));
    return 130;
  } catch (const ip2p::OutOfMemory& error) {
    const bool offered = app.get_option_no_throw("--low-memory") != nullptr;
    return report(fmt::format("{}{}", error.what(), offered ? "; --low-memory does the last two" : ""));
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace example
