#pragma once

/// \file
/// What the programs share: the command line and exit status, reporting, writing all files or none.

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "interrupt.hpp"
#include "ip2p/core/progress.hpp"
#include "progress_bar.hpp"

namespace CLI {
class App;
}

namespace example {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// \throws ip2p::Error if this process may not write into an existing folder
void require_writable(const std::filesystem::path& folder);

/// Checks the outputs before the work rather than after it, and removes what killed processes left in their folders.
void check_folders(const std::vector<const std::filesystem::path*>& outputs);

/// Prints a prompt's token count, and warns about text that does not fit.
/// \param tokens of the whole prompt  \param limit tokens that the model reads  \param dropped the text beyond them
void report_prompt(std::string_view name, std::int64_t tokens, std::int64_t limit, std::string_view dropped);

std::string gibibytes(double bytes);

void report_memory(at::Device device);

/// Hooks that draw a progress bar and stop on Ctrl-C.
ip2p::RunHooks watched(ProgressBar& bar, const Interrupt& interrupt);

/// Writes all of a run's files and folders, or none.
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
    for (auto path = written_.rbegin(); path != written_.rend(); ++path) std::filesystem::remove_all(*path, ignored);
  }

 private:
  std::vector<std::filesystem::path> written_;
};

/// Parses the command line and runs the program; a failure prints one line and sets the exit status.
///
/// `--help`, `--version`, `--config`, `--save-config`, `--quiet` and the exit statuses are those of every program: 0
/// success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C. Exceptions end the run with their text.
/// \param name of the program  \param description what `--help` says first  \param add_options adds the program's own
/// options  \param run called once they are parsed; returns the status
int run_program(int argc, char** argv, const char* name, const char* description,
                const std::function<void(CLI::App&)>& add_options, const std::function<int(const Interrupt&)>& run);

}  // namespace example
