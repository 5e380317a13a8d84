#pragma once

// What the parts of device_check share: the settings of a run, the report of a step, and the comparison of a device
// with the CPU. Each part is a source file that gives a list of steps; device_check.cpp runs them.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace ip2p::device_check {

/// What a run checks, and how large.
struct Settings {
  at::Device device = at::kCPU;  ///< What is checked against the CPU.
  bool small = false;            ///< Tiny sizes, for a machine without a GPU.
  std::filesystem::path models;  ///< The repository's folder of models.
  std::filesystem::path
      weights{};  ///< Where the benchmark of edits leaves its model for other programs; empty: nowhere.
};

/// One line of the report.
struct Row {
  std::string step{};  ///< Name of the step.
  std::string name;    ///< What was compared or measured.
  std::string status;  ///< "ok", "failed", "skipped", "measured" or "note".
  double value = 0.0;  ///< What was found; NaN where it is no number.
  double limit = 0.0;  ///< Largest value that passes; 0 where there is none.
  std::string unit{};  ///< Of a measured value.
  std::string text{};  ///< The reason of a failure or a skip, or the note.
};

/// Collects the lines of a step and prints each as it comes.
class Report {
 public:
  explicit Report(std::string step) : step_(std::move(step)) {}

  /// Passes where `found` is at most `limit`; NaN fails.
  void compare(const std::string& name, double found, double limit);
  /// Passes where `right`. \param text what was found
  void expect(const std::string& name, bool right, const std::string& text);
  /// A number without a limit.
  void measure(const std::string& name, double value, const std::string& unit);
  /// A fact.
  void note(const std::string& name, const std::string& text);
  /// What cannot be checked here, and why.
  void skip(const std::string& name, const std::string& reason);

  /// Runs `body`; what it throws is a failure of `name`, and the step goes on. \return whether it did not throw
  template <class Body>
  bool attempt(const std::string& name, Body&& body) {
    try {
      body();
      return true;
    } catch (const std::exception& problem) {
      fail(name, problem.what());
    }
    return false;
  }

  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

 private:
  void fail(const std::string& name, const std::string& reason);
  void add(Row row);

  std::string step_;
  std::vector<Row> rows_;
};

/// One entry of the list that --step chooses from.
struct Part {
  const char* name;
  bool benchmark;  ///< Measures rather than checks.
  void (*run)(const Settings&, Report&);
};

std::vector<Part> machine_steps();
std::vector<Part> nccl_steps();
std::vector<Part> kernel_steps();
std::vector<Part> module_steps();
std::vector<Part> pipeline_steps();
std::vector<Part> training_steps();
std::vector<Part> run_speed_steps();
std::vector<Part> training_speed_steps();

/// Where something is computed, and how.
struct Place {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  bool reference = false;  ///< On the CPU in fp32, with plain weights that no backend has packed.
};

/// "fp32", "bf16" or "fp16".
const char* dtype_name(at::ScalarType dtype);

/// Largest error of a dtype, relative to the reference: fp32 1e-4, bf16 1e-2, fp16 3e-3.
double limit_of(at::ScalarType dtype);

/// Root mean square of the difference, relative to that of `expected`; infinite where something is not finite.
/// \throws Error for different shapes
double relative_error(const at::Tensor& found, const at::Tensor& expected);

inline const std::vector<at::ScalarType> every_dtype{at::kFloat, at::kBFloat16, at::kHalf};

/// Computes `evaluate` at the reference and on the device in each dtype, and compares. Both get a tensor of the same
/// shape, or a list of them, joined.
/// \param allowance factor of the limits of 16 bits, for what multiplies rounding errors (a deep network, a long run)
void parity(Report& report, const Settings& settings, const std::string& name,
            const std::function<at::Tensor(const Place&)>& evaluate,
            const std::vector<at::ScalarType>& dtypes = every_dtype, double allowance = 1.0);

/// Tensors of any shapes as one list of numbers, fp64 on the CPU.
at::Tensor joined(std::span<const at::Tensor> tensors);
inline at::Tensor joined(std::initializer_list<at::Tensor> tensors) {
  return joined(std::span(tensors.begin(), tensors.size()));
}

/// Waits until the device has done all that it was given.
void synchronise(at::Device device);

/// Seconds that `work` takes on the device, from its call until the device is idle again.
double seconds_of(at::Device device, const std::function<void()>& work);

/// Median of several such calls, after one that is not counted.
double median_seconds(at::Device device, int repetitions, const std::function<void()>& work);

/// Largest memory since `reset_peak`, in GiB: allocated on a GPU, resident in the CPU's case.
double peak_gib(at::Device device);
void reset_peak(at::Device device);

/// Adds the 15 operations of `work` that take longest: kernels on a GPU, operators without those that they call on the
/// CPU.
void report_operations(Report& report, const std::string& name, at::Device device, const std::function<void()>& work);

}  // namespace ip2p::device_check
