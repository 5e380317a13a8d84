#include "metrics.hpp"

#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace studio {

void Counters::add(std::string_view label, double amount) {
  const std::scoped_lock lock(mutex_);
  counts_[std::string(label)] += amount;
}

std::map<std::string, double> Counters::all() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

void MetricsText::head(std::string_view name, std::string_view help, std::string_view kind) {
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, kind);
}

void MetricsText::counter(std::string_view name, std::string_view help, double value) {
  head(name, help, "counter");
  text_ += fmt::format("{} {}\n", name, value);
}

void MetricsText::gauge(std::string_view name, std::string_view help, double value) {
  head(name, help, "gauge");
  text_ += fmt::format("{} {}\n", name, value);
}

void MetricsText::counters(std::string_view name, std::string_view help, std::string_view label,
                           const Counters& values) {
  head(name, help, "counter");
  for (const auto& [value, count] : values.all())
    text_ += fmt::format("{}{{{}=\"{}\"}} {}\n", name, label, value, count);
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace studio
