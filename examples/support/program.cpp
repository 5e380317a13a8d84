#include "program.hpp"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <cxxabi.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <typeinfo>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "config_file.hpp"
#include "hub.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/version.hpp"
#include "number.hpp"
#include "option_table.hpp"
#include "reporting.hpp"
#include "text_file.hpp"

namespace example {
namespace {

std::terminate_handler terminate_before = nullptr;

/// Ends a program that no handler is left to end: LibTorch allocates while it is loaded, before main(), and where it
/// gets no memory there, nobody can catch what it throws. Allocates nothing.
[[noreturn]] void end_without_memory() {
  const auto* type = abi::__cxa_current_exception_type();
  if (type != nullptr && *type == typeid(std::bad_alloc)) {
    for (const std::string_view part :
         {std::string_view(program_invocation_short_name), std::string_view(": out of memory\n")}) {
      [[maybe_unused]] const auto told = write(STDERR_FILENO, part.data(), part.size());
    }
    _exit(1);
  }
  terminate_before();
  _exit(1);  // no handler of terminate returns
}

void catch_early() { terminate_before = std::set_terminate(end_without_memory); }

/// The loader calls what stands in this section before it initialises the shared libraries.
[[gnu::section(".preinit_array"), gnu::used]] constexpr void (*before_libraries)() = catch_early;

}  // namespace

void require_writable(const std::filesystem::path& folder) {
  const int refused = access(folder.c_str(), W_OK) == 0 ? 0 : errno;
  ip2p::require(refused != EACCES, "{}: no permission to write into this folder", folder.string());
  ip2p::require(refused == 0, "{}: cannot write into this folder: {}", folder.string(),
                ip2p::detail::errno_text(refused));
}

void check_folders(const std::vector<const std::filesystem::path*>& outputs) {
  std::set<std::filesystem::path> folders;
  for (const auto* path : outputs) {
    if (path->empty()) continue;
    const auto name = path->filename().string();
    ip2p::require(name.size() <= NAME_MAX && path->string().size() < PATH_MAX,
                  "{}: expected a file name of at most {} bytes, found {}", path->string().substr(0, 100) + "...",
                  NAME_MAX, name.size());
    const auto target = ip2p::detail::write_target(*path);  // what a link leads to
    const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    std::error_code problem, ignored;
    const auto found = std::filesystem::status(folder, problem).type();
    ip2p::require(found != std::filesystem::file_type::none, "cannot access '{}': {}", folder.string(),
                  problem.message());
    ip2p::require(found == std::filesystem::file_type::directory, "{}: expected a folder to write into, found none{}",
                  folder.string(),
                  target == *path ? std::string() : fmt::format(" ('{}' is a link into it)", path->string()));
    require_writable(folder);
    ip2p::require(!std::filesystem::is_directory(*path, ignored), "{}: expected the name of a file, found a folder",
                  path->string());
    folders.insert(folder);
  }
  for (const auto& folder : folders) ip2p::remove_temporaries_in(folder);
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

/// What every program takes besides its own options.
struct CommonOptions {
  std::filesystem::path save_config;
};

void add_common(CLI::App& app, CommonOptions& o) {
  auto* config = app.set_config("--config", "",
                                "TOML file with options of this program; the command line comes first, and relative "
                                "paths are relative to the file");
  config->type_name("FILE")->check(text_file);
  app.config_formatter(std::make_shared<ConfigFile>(app, *config));
  app.add_option("--save-config", o.save_config, "write all options in effect as a file for --config")
      ->type_name("FILE")
      ->configurable(false);
  add_quiet(app);
  app.set_version_flag("--version", std::string(ip2p::version))->configurable(false);
  // They may follow a subcommand, too.
  for (auto* command : app.get_subcommands([](CLI::App* of) { return !of->get_name().empty(); })) {
    command->fallthrough();
  }
  constexpr auto rule = "Exit status: 0 success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C.";
  const auto footer = app.get_footer();
  app.footer(footer.empty() ? fmt::format("{} Nothing is written unless the run succeeds.", rule)
                            : fmt::format("{}\n{}", footer, rule));
}

/// An error of CLI11 in the words of this program.
std::string usage_message(CLI::App& app, const CLI::ParseError& problem) {
  // A misspelt option first: it is why another may be missing.
  if (auto misused = misused_words(app); !misused.empty()) return misused;
  const std::string text = problem.what();
  if (dynamic_cast<const CLI::ConversionError*>(&problem) != nullptr) {
    // "Could not convert: --steps = 4.0": options with bounds of their own say more.
    const auto colon = text.find(": "), equals = text.find(" = ");
    if (colon != text.npos && equals != text.npos && equals > colon) {
      const auto value = text.substr(equals + 3);
      return fmt::format("{}: expected a number of the kind that --help names, found '{}'{}",
                         text.substr(colon + 2, equals - colon - 2), value, number_hint(value));
    }
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&problem) != nullptr) {
    if (const auto colon = text.find(": "); colon != text.npos && text.ends_with(" missing")) {
      return fmt::format("{}: expected a value, found none", text.substr(0, colon));
    }
  }
  return text;
}

/// Why the file of --config could not be opened. CLI11 says the same of one that is not there, of a folder, and of one
/// for which there is no permission or descriptor. \return the status with which the program ends, and the message
std::pair<int, std::string> config_message(const CLI::FileError& problem) {
  const std::string text = problem.what();
  if (text.starts_with("--config: ")) return {1, text};  // ours, about one that could not be read
  const std::filesystem::path path = text.substr(0, text.find(" was not readable"));
  try {
    if (std::filesystem::is_directory(path))
      return {2, fmt::format("--config: '{}': expected a file, found a folder", path.string())};
    // Whatever it was may be over by now.
    if (ip2p::detail::file_text(path)) return {1, fmt::format("--config: cannot open '{}'", path.string())};
    return {2, fmt::format("--config: '{}': no such file", path.string())};
  } catch (const std::exception& error) {
    return {1, fmt::format("--config: {}", error.what())};
  }
}

/// Parses the words. \return the status with which the program ends, or -1 to go on
int parse(CLI::App& app, int argc, char** argv) {
  const auto wrong = [&](const std::string& message) {
    fmt::print(stderr, "{}: {}\nRun with --help for more information.\n", app.get_name(), message);
    return 2;
  };
  // For the page of programs, man pages and shell completion, which a script makes of it.
  if (argc == 2 && std::string_view(argv[1]) == "--help-json") {
    fmt::print("{}\n", option_table(app).dump(1));
    return 0;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::FileError& problem) {
    const auto [status, message] = config_message(problem);
    if (status == 2) return wrong(message);
    fmt::print(stderr, "{}: {}\n", app.get_name(), message);
    return status;
  } catch (const CLI::ParseError& problem) {
    return wrong(usage_message(app, problem));
  }
  if (const auto misused = misused_words(app); !misused.empty()) return wrong(misused);
  return -1;
}

}  // namespace

int run_program(int argc, char** argv, const char* name, const char* description,
                const std::function<void(CLI::App&)>& add_options, const std::function<int(const Interrupt&)>& run) {
  CLI::App app{description, name};
  CommonOptions common;
  const auto report = [name](std::string_view message) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}\n", name, message);
    return 1;
  };
  add_options(app);
  add_common(app, common);
  if (const int status = parse(app, argc, argv); status >= 0) return status;
  begin_reporting();
  try {
    const Interrupt interrupt;
    stop_downloads_on(interrupt.token());
    check_folders({&common.save_config});
    const int status = ip2p::with_memory_advice([&] { return run(interrupt); });
    if (status != 0) return status;
    if (!common.save_config.empty()) {
      const auto text = config_text(app, std::filesystem::absolute(common.save_config).parent_path());
      ip2p::write_file_atomically(common.save_config, std::as_bytes(std::span(text)));
      result().wrote(common.save_config);
    }
    finish_reporting(name);
    return 0;
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
    const auto where = error.path1().string();
    return report(where.empty() ? error.code().message()
                                : fmt::format("cannot access '{}': {}", where.substr(0, 200), error.code().message()));
  } catch (const std::system_error& error) {
    // The standard library says no more where a thread gets no memory for its stack, or no process is left for it.
    const bool thread = error.code() == std::errc::resource_unavailable_try_again;
    return report(
        thread ? fmt::format("cannot start a thread: too little memory, or too many processes ({})", error.what())
               : error.what());
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace example
