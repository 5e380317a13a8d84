#pragma once

/// \file
/// Numbers for a monitoring system.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace studio {

/// Counters by the value of a label.
class Counters {
 public:
  void add(std::string_view label, double amount = 1);
  [[nodiscard]] std::map<std::string, double> all() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, double> counts_;
};

/// Metrics in Prometheus' text format.
class MetricsText {
 public:
  void counter(std::string_view name, std::string_view help, double value);
  void gauge(std::string_view name, std::string_view help, double value);
  void counters(std::string_view name, std::string_view help, std::string_view label, const Counters& values);
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void head(std::string_view name, std::string_view help, std::string_view kind);
  std::string text_;
};

/// Of this process, in memory.
std::size_t resident_bytes();

}  // namespace studio
