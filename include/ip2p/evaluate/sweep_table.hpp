#pragma once

/// \file
/// Aggregates a sweep's samples to points with confidence intervals, and tabulates them.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/evaluate/bootstrap.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/evaluate/sweep_journal.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p {

/// Means over the edits of a set at one point.
struct SweepRow {
  SweepPoint point;
  std::int64_t samples = 0;                          ///< Edits that the means are taken over.
  std::map<std::string, ConfidenceInterval> scores;  ///< By name.
};

/// Number of samples still missing for `points` over the edits with these ids.
inline std::int64_t missing_samples(std::span<const SweepPoint> points, std::span<const std::string> edits,
                                    const SweepResults& results) {
  std::int64_t missing = 0;
  for (const auto& point : points) {
    for (const auto& edit : edits) missing += results.find(point.key(), edit) == nullptr;
  }
  return missing;
}

/// One row per point. Samples are taken in the order of `edits`, and all points use the same resamples, so the table
/// does not depend on which process computed what when.
/// \throws Error when samples are missing, or not all edits have the same scores
inline std::vector<SweepRow> sweep_table(std::span<const SweepPoint> points, std::span<const std::string> edits,
                                         const SweepResults& results, const BootstrapOptions& options = {}) {
  require(!edits.empty(), "sweep: expected at least one edit, found none");
  const auto missing = missing_samples(points, edits, results);
  require(missing == 0, "sweep: expected {} samples, found {} missing", points.size() * edits.size(), missing);
  std::vector<SweepRow> rows;
  for (const auto& point : points) {
    std::map<std::string, std::vector<double>> values;
    for (const auto& edit : edits) {
      for (const auto& [name, value] : *results.find(point.key(), edit)) values[name].push_back(value);
    }
    SweepRow row{point, static_cast<std::int64_t>(edits.size()), {}};
    for (const auto& [name, column] : values) {
      require(column.size() == edits.size(), "sweep: {}: expected {} of all {} edits, found it of {}", point.key(),
              name, edits.size(), column.size());
      row.scores[name] = bootstrap_mean(column, options);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

namespace detail {

/// A field of a CSV file (RFC 4180).
inline std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace detail

/// The rows as CSV, one line per point and score: curve, label, point (method and settings), score, samples, mean,
/// low, high.
inline std::string sweep_csv(std::span<const SweepRow> rows) {
  std::string text = "curve,label,point,score,samples,mean,low,high\n";
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.scores) {
      text += fmt::format("{},{},{},{},{},{:.8g},{:.8g},{:.8g}\n", detail::csv_field(row.point.curve),
                          detail::csv_field(row.point.label), detail::csv_field(row.point.key()),
                          detail::csv_field(name), row.samples, value.mean, value.low, value.high);
    }
  }
  return text;
}

/// Writes `sweep_csv`, atomically. \throws Error on I/O failure
inline void write_sweep_csv(const std::filesystem::path& path, std::span<const SweepRow> rows) {
  const auto text = sweep_csv(rows);
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace ip2p
