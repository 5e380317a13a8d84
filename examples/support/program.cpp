#include "program.hpp"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <sys/resource.h>
#include <unistd.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "hub.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/version.hpp"
#include "range.hpp"

namespace example {

void check_folders(std::initializer_list<const std::filesystem::path*> outputs) {
  for (const auto* path : outputs) {
    if (path->empty()) continue;
    const auto name = path->filename().string();
    ip2p::require(name.size() <= NAME_MAX && path->string().size() < PATH_MAX,
                  "{}: expected a file name of at most {} bytes, found {}", path->string().substr(0, 100) + "...",
                  NAME_MAX, name.size());
    const auto target = ip2p::detail::write_target(*path);  // what a link leads to
    const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    std::error_code ignored;
    ip2p::require(std::filesystem::is_directory(folder, ignored), "{}: expected a folder to write into, found none{}",
                  folder.string(),
                  target == *path ? std::string() : fmt::format(" ('{}' is a link into it)", path->string()));
    ip2p::require(access(folder.c_str(), W_OK) == 0, "{}: no permission to write into this folder", folder.string());
    ip2p::require(!std::filesystem::is_directory(*path, ignored), "{}: expected the name of a file, found a folder",
                  path->string());
  }
}

void report_prompt(std::string_view name, std::int64_t tokens, std::int64_t limit, std::string_view dropped) {
  fmt::print("{}: {} token{}\n", name, tokens, tokens == 1 ? "" : "s");
  if (tokens > limit) {
    fmt::print(stderr, "warning: {}: only the first {} of {} tokens count; dropped: \"{}\"\n", name, limit, tokens,
               dropped);
  }
}

std::string gibibytes(double bytes) { return fmt::format("{:.2f} GiB", bytes / (1 << 30)); }

void report_memory(at::Device device) {
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

ip2p::RunHooks watched(ProgressBar& bar, const Interrupt& interrupt) {
  ip2p::RunHooks hooks;
  hooks.stop = interrupt.token();
  hooks.on_step = [&bar](const ip2p::Step& step, const at::Tensor&) { bar(step); };
  return hooks;
}

namespace {

/// What the programs call the settings of the library; the rest have the field's name.
constexpr std::pair<std::string_view, std::string_view> setting_names[] = {
    {"partial_loras = true", "--lora-partial"},
    {"prediction_type", "--prediction-type"},
    {"prefer_ema = false", "--no-ema"},
    {"scan = true", "--scan"},
};

/// The sentence of an error that an option of the program mends.
std::string with_option(const ip2p::SettingNeeded& error) {
  auto option = "--" + error.setting();
  for (const auto& [setting, name] : setting_names) {
    if (setting == error.setting()) option = name;
  }
  return fmt::format("{}; pass {} {}", error.problem(), option, error.purpose());
}

}  // namespace

int run_program(int argc, char** argv, const char* name, const char* description,
                const std::function<void(CLI::App&)>& add_options, const std::function<int(const Interrupt&)>& run) {
  CLI::App app{description};
  app.set_version_flag("--version", std::string(ip2p::version));
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // as a script's "$@" expects
  app.footer(
      "Exit status: 0 success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C. Nothing is written unless "
      "the run succeeds.");
  add_options(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ConversionError& problem) {
    // "Could not convert: --steps = 4.0": options with bounds of their own say more.
    const std::string text = problem.what();
    const auto colon = text.find(": "), equals = text.find(" = ");
    if (colon == text.npos || equals == text.npos || equals < colon) return app.exit(problem) == 0 ? 0 : 2;
    const auto value = text.substr(equals + 3);
    fmt::print(stderr,
               "{}: expected a number of the kind that --help names, found '{}'{}\nRun with --help for more "
               "information.\n",
               text.substr(colon + 2, equals - colon - 2), value, number_hint(value));
    return 2;
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
    stop_downloads_on(interrupt.token());
    return ip2p::with_memory_advice([&] { return run(interrupt); });
  } catch (const ip2p::Cancelled& cancelled) {
    report(fmt::format("{}; nothing was written", cancelled.what()));
    return 130;
  } catch (const ip2p::SettingNeeded& error) {
    return report(with_option(error));
  } catch (const ip2p::OutOfMemory& error) {
    const bool offered = app.get_option_no_throw("--low-memory") != nullptr;
    return report(fmt::format("{}{}", error.what(), offered ? "; --low-memory does the last two" : ""));
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace());
  } catch (const std::filesystem::filesystem_error& error) {
    return report(fmt::format("cannot access '{}': {}", error.path1().string().substr(0, 200), error.code().message()));
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace example
