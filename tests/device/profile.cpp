// Where the time of a piece of work goes, by LibTorch's own profiler.

#include <fmt/format.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "device/check.hpp"

namespace ip2p::device_check {

namespace {

/// Time of one operation: a kernel on a GPU, an operator without those that it calls on the CPU.
struct OperationTime {
  std::string name;
  double ms = 0.0;
  std::int64_t calls = 0;
};

/// The operations of `work`, longest first.
std::vector<OperationTime> operations_of(at::Device device, const std::function<void()>& work) {
  using torch::profiler::impl::ActivityType;
  namespace profiler = torch::autograd::profiler;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (device.is_cuda()) activities.insert(ActivityType::CUDA);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  work();
  synchronise(device);
  const auto result = profiler::disableProfiler();

  struct Span {
    std::uint64_t start, end;
    const profiler::KinetoEvent* event;
  };
  std::map<std::int64_t, std::vector<Span>> by_queue;
  for (const auto& event : result->events()) {
    if (event.deviceType() != device.type()) continue;
    const auto queue = device.is_cuda() ? event.deviceResourceId() : static_cast<std::int64_t>(event.startThreadId());
    by_queue[queue].push_back({event.startNs(), event.endNs(), &event});
  }
  std::map<std::string, OperationTime> totals;
  for (auto& [queue, spans] : by_queue) {
    std::ranges::sort(
        spans, [](const Span& a, const Span& b) { return a.start != b.start ? a.start < b.start : a.end > b.end; });
    // An operator's own time is what the operators inside of it leave.
    std::vector<std::pair<Span, double>> open;
    const auto close = [&] {
      const auto& [span, inner] = open.back();
      const double all = static_cast<double>(span.end - span.start) * 1e-6;
      auto& total = totals[span.event->name()];
      total.ms += all - inner;
      ++total.calls;
      open.pop_back();
      if (!open.empty()) open.back().second += all;
    };
    for (const auto& span : spans) {
      while (!open.empty() && open.back().first.end <= span.start) close();
      open.emplace_back(span, 0.0);
    }
    while (!open.empty()) close();
  }
  std::vector<OperationTime> list;
  for (auto& [name, total] : totals) list.push_back({name, total.ms, total.calls});
  std::ranges::sort(list, [](const auto& a, const auto& b) { return a.ms > b.ms; });
  return list;
}

}  // namespace

void report_operations(Report& report, const std::string& name, at::Device device, const std::function<void()>& work) {
  const auto list = operations_of(device, work);
  double whole = 0.0;
  std::int64_t calls = 0;
  for (const auto& operation : list) {
    whole += operation.ms;
    calls += operation.calls;
  }
  report.expect(name + ": operations", !list.empty() && whole > 0.0,
                fmt::format("{:.2f} ms in {} calls of {} operations", whole, calls, list.size()));
  for (std::size_t i = 0; i < std::min<std::size_t>(15, list.size()); ++i) {
    report.note(fmt::format("{}: {:2}", name, i + 1),
                fmt::format("{:6.2f} % {:9.3f} ms {:6} calls {}", 100.0 * list[i].ms / whole, list[i].ms, list[i].calls,
                            list[i].name.substr(0, 120)));
  }
}

}  // namespace ip2p::device_check
