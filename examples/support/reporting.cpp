#include "reporting.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "ip2p/version.hpp"

namespace example {

namespace {

/// Of the process.
struct Reporting {
  bool quiet = false, json = false;
  int standard_output = STDOUT_FILENO;  ///< Where it was at the start.
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  nlohmann::ordered_json settings = nlohmann::ordered_json::object(), seconds = nlohmann::ordered_json::object(),
                         written = nlohmann::ordered_json::array();
};

Reporting& reporting() {
  static Reporting one;
  return one;
}

/// Standard output goes where `descriptor` leads.
void send_output_to(int descriptor) {
  std::fflush(stdout);
  dup2(descriptor, STDOUT_FILENO);
}

}  // namespace

void add_quiet(CLI::App& app) {
  app.add_flag("--quiet", reporting().quiet, "print no progress and no notes, only warnings, errors and results")
      ->configurable(false);
}

void add_json(CLI::App& app) {
  app.add_flag("--json", reporting().json,
               "print the result as one line of JSON: files written, seconds and settings; everything else goes to "
               "standard error")
      ->configurable(false);
}

bool quiet() { return reporting().quiet; }

bool json() { return reporting().json; }

void note(std::string_view text) {
  if (!quiet()) fmt::print(stderr, "note: {}\n", text);
}

void result_follows() {
  if (!reporting().json) send_output_to(reporting().standard_output);
}

int standard_output() { return reporting().standard_output; }

void Result::set(const std::string& name, const Entry& value) {
  std::visit([&](const auto& one) { reporting().settings[name] = one; }, value);
}

void Result::seconds(const std::string& part, double seconds) { reporting().seconds[part] = seconds; }

void Result::wrote(const std::filesystem::path& path) {
  reporting().written.push_back({{"file", path.string()}});
  std::error_code problem;
  if (const auto bytes = std::filesystem::file_size(path, problem); !problem) {
    reporting().written.back()["bytes"] = bytes;
  }
}

void Result::wrote(const std::filesystem::path& path, const ip2p::Image& picture) {
  wrote(path);
  reporting().written.back()["width"] = picture.width;
  reporting().written.back()["height"] = picture.height;
}

Result& result() {
  static Result one;
  return one;
}

void begin_reporting() {
  auto& r = reporting();
  if (!r.quiet && !r.json) return;
  r.standard_output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (const int nowhere = r.quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1; nowhere >= 0) {
    send_output_to(nowhere);
    close(nowhere);
  } else {
    send_output_to(STDERR_FILENO);
  }
}

void finish_reporting(std::string_view program) {
  auto& r = reporting();
  if (!r.json) return;
  r.seconds["total"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - r.begin).count();
  const nlohmann::ordered_json line{{"program", program},
                                    {"version", std::string(ip2p::version)},
                                    {"written", r.written},
                                    {"seconds", r.seconds},
                                    {"settings", r.settings}};
  send_output_to(r.standard_output);
  // A path or prompt may hold any bytes.
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  std::fflush(stdout);
}

}  // namespace example
