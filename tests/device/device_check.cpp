// All checks and benchmarks of a device in one program:
//
//     device_check --device cuda|cpu [--step NAME,...|all] [--out FOLDER] [--models FOLDER] [--weights FOLDER]
//                  [--small]
//     device_check --list
//
// A step prints its lines as they come and writes FOLDER/NAME.json; a table of all steps ends the output. The exit
// status is 0 where nothing failed. docs/how-to/check-a-gpu.md has the whole of it.

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "device/check.hpp"
#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::device_check {

void Report::add(Row row) {
  row.step = step_;
  std::string line = fmt::format("{:9} {}: {}", row.status, row.step, row.name);
  if (row.status == "measured") {
    line += fmt::format(": {:.4g} {}", row.value, row.unit);
  } else if (std::isfinite(row.value) && row.limit > 0.0) {
    line += fmt::format(": {:.1e} (limit {:.1e})", row.value, row.limit);
  }
  if (!row.text.empty()) line += ": " + row.text;
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

void Report::compare(const std::string& name, double found, double limit) {
  const bool right = found <= limit;
  add({.name = name,
       .status = right ? "ok" : "failed",
       .value = found,
       .limit = limit,
       .text = std::isfinite(found) ? "" : "expected finite values, found NaN or infinity"});
}

void Report::expect(const std::string& name, bool right, const std::string& text) {
  add({.name = name, .status = right ? "ok" : "failed", .value = std::nan(""), .text = text});
}

void Report::measure(const std::string& name, double value, const std::string& unit) {
  add({.name = name, .status = "measured", .value = value, .unit = unit});
}

void Report::note(const std::string& name, const std::string& text) {
  add({.name = name, .status = "note", .value = std::nan(""), .text = text});
}

void Report::skip(const std::string& name, const std::string& reason) {
  add({.name = name, .status = "skipped", .value = std::nan(""), .text = reason});
}

void Report::fail(const std::string& name, const std::string& reason) {
  // The first line: LibTorch appends a backtrace.
  add({.name = name, .status = "failed", .value = std::nan(""), .text = reason.substr(0, reason.find('\n'))});
}

const char* dtype_name(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kBFloat16 ? "bf16" : dtype == at::kHalf ? "fp16" : "fp64";
}

double limit_of(at::ScalarType dtype) { return dtype == at::kBFloat16 ? 1e-2 : dtype == at::kHalf ? 3e-3 : 1e-4; }

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  require(found.sizes() == expected.sizes(), "expected a result of {}, found {}", shape_text(expected.sizes()),
          shape_text(found.sizes()));
  const auto a = found.detach().to(at::kCPU, at::kDouble), b = expected.detach().to(at::kCPU, at::kDouble);
  const double scale = b.square().mean().sqrt().item<double>();
  const double error = a.sub(b).square().mean().sqrt().item<double>();
  require(scale > 0.0, "expected a reference that is not zero everywhere");
  return std::isfinite(error) ? error / scale : std::numeric_limits<double>::infinity();
}

void parity(Report& report, const Settings& settings, const std::string& name,
            const std::function<at::Tensor(const Place&)>& evaluate, const std::vector<at::ScalarType>& dtypes,
            double allowance) {
  at::Tensor expected;
  if (!report.attempt(name + ", reference", [&] { expected = evaluate({.reference = true}); })) return;
  for (const auto dtype : dtypes) {
    const auto what = name + ", " + dtype_name(dtype);
    report.attempt(what, [&] {
      const auto found = evaluate({.device = settings.device, .dtype = dtype});
      report.compare(what, relative_error(found, expected), limit_of(dtype) * (dtype == at::kFloat ? 1.0 : allowance));
    });
  }
}

at::Tensor joined(std::span<const at::Tensor> tensors) {
  std::vector<at::Tensor> all;
  for (const auto& tensor : tensors) all.push_back(tensor.detach().to(at::kCPU, at::kDouble).reshape({-1}));
  return at::cat(all);
}

void synchronise(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.has_index() ? device.index() : 0);
}

double seconds_of(at::Device device, const std::function<void()>& work) {
  synchronise(device);
  const auto begin = std::chrono::steady_clock::now();
  work();
  synchronise(device);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median_seconds(at::Device device, int repetitions, const std::function<void()>& work) {
  work();
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) times.push_back(seconds_of(device, work));
  std::ranges::sort(times);
  return times[times.size() / 2];
}

double peak_gib(at::Device device) {
  constexpr double gib = 1024.0 * 1024.0 * 1024.0;
  if (device.is_cpu()) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) * 1024.0 / gib;
  }
  const auto stats = at::accelerator::getDeviceStats(device.has_index() ? device.index() : 0);
  return static_cast<double>(stats.allocated_bytes.at(0).peak) / gib;
}

void reset_peak(at::Device device) {
  if (device.is_cpu()) return;
  at::accelerator::emptyCache();
  at::accelerator::resetPeakStats(device.has_index() ? device.index() : 0);
}

namespace {

struct Options {
  Settings settings;
  std::string step = "all";
  std::filesystem::path out;
  bool list = false;
};

Options parsed(int argc, char** argv) {
  Options options;
  std::string device = "auto";
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&] {
      require(i + 1 < argc, "{}: expected a value, found none", option);
      return std::string(argv[++i]);
    };
    if (option == "--device") {
      device = value();
    } else if (option == "--step") {
      options.step = value();
    } else if (option == "--out") {
      options.out = value();
    } else if (option == "--models") {
      options.settings.models = value();
    } else if (option == "--weights") {
      options.settings.weights = value();
    } else if (option == "--small") {
      options.settings.small = true;
    } else if (option == "--list") {
      options.list = true;
    } else {
      throw_error("expected --device, --step, --out, --models, --weights, --small or --list, found '{}'", option);
    }
  }
  if (!options.list) options.settings.device = parse_device(device);
  return options;
}

std::vector<Part> all_steps() {
  std::vector<Part> steps;
  for (const auto& part : {machine_steps(), nccl_steps(), kernel_steps(), module_steps(), pipeline_steps(),
                           training_steps(), run_speed_steps(), training_speed_steps()}) {
    steps.insert(steps.end(), part.begin(), part.end());
  }
  return steps;
}

nlohmann::json json_of(const Row& row) {
  nlohmann::json json{{"step", row.step}, {"name", row.name}, {"status", row.status}};
  if (std::isfinite(row.value)) json["value"] = row.value;
  if (row.limit > 0.0) json["limit"] = row.limit;
  if (!row.unit.empty()) json["unit"] = row.unit;
  if (!row.text.empty()) json["text"] = row.text;
  return json;
}

/// Writes one step's file. A step that dies leaves none, which is how whoever started it knows.
void write_rows(const std::filesystem::path& path, const std::vector<Row>& rows, double seconds) {
  nlohmann::json json{{"seconds", seconds}, {"rows", nlohmann::json::array()}};
  for (const auto& row : rows) json["rows"].push_back(json_of(row));
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path);
  file << json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  require(file.flush().good(), "cannot write '{}'", path.string());
}

int run(const Options& options) {
  std::vector<std::string> table;
  std::int64_t failed = 0, chosen = 0;
  for (const auto& step : all_steps()) {
    if (options.step != "all" && ("," + options.step + ",").find(fmt::format(",{},", step.name)) == std::string::npos) {
      continue;
    }
    ++chosen;
    // To measure algorithms takes longer than a check uses them. Graphs are to hold what runs do.
    allow_convolution_benchmark(step.benchmark || std::string_view(step.name) == "graphs");
    Report report(step.name);
    const double seconds = seconds_of(
        at::kCPU, [&] { report.attempt("the step as a whole", [&] { step.run(options.settings, report); }); });
    const auto count = [&](const char* status) {
      return std::ranges::count_if(report.rows(), [&](const Row& row) { return row.status == status; });
    };
    // A step without a single line has checked nothing.
    report.attempt("the step as a whole", [&] { require(!report.rows().empty(), "expected a result, found none"); });
    failed += count("failed");
    table.push_back(fmt::format("{:24} {:>6} {:>6} {:>7} {:>8} {:>7.1f}", step.name, count("ok"), count("failed"),
                                count("skipped"), count("measured"), seconds));
    if (!options.out.empty()) write_rows(options.out / (std::string(step.name) + ".json"), report.rows(), seconds);
  }
  require(chosen > 0, "--step: expected all or names that --list prints, with commas, found '{}'", options.step);
  std::printf("\n%-24s %6s %6s %7s %8s %7s\n", "step", "ok", "failed", "skipped", "measured", "seconds");
  for (const auto& line : table) std::printf("%s\n", line.c_str());
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ip2p::device_check

int main(int argc, char** argv) {
  using namespace ip2p::device_check;
  try {
    const auto options = parsed(argc, argv);
    if (!options.list) return run(options);
    for (const auto& step : all_steps()) std::printf("%s %s\n", step.name, step.benchmark ? "benchmark" : "check");
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "device_check: %s\n", problem.what());
    return 2;
  }
}
