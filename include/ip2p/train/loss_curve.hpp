#pragma once

/// \file
/// The record of a training run as CSV, one line per update.

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"

namespace ip2p {

/// One update on the curve.
struct LossPoint {
  std::int64_t step = 0;  ///< Updates made, this one included.
  double loss = 0.0;      ///< Of the whole batch.
  double rate = 0.0;      ///< Learning rate.
  double seconds = 0.0;   ///< Wall time since the start of the run.
};

/// Keeps points in memory and, with a path, as CSV with the columns step, loss, learning_rate, seconds. `flush()`
/// writes them to the file. A run calls it before each checkpoint, so after a crash the file may be ahead of the
/// checkpoint, never behind; `truncate()` drops the excess.
class LossCurve {
 public:
  /// \param path file to write; empty keeps the points in memory only. An existing file is read.
  explicit LossCurve(std::filesystem::path path = {}) : path_(std::move(path)) {
    if (path_.empty() || !std::filesystem::exists(path_)) return;
    bool whole = false;
    points_ = read(path_, &whole);
    written_ = whole ? points_.size() : 0;
  }

  /// Adds a point in memory; `flush()` writes it.
  void add(const LossPoint& point) { points_.push_back(point); }

  /// Drops the points after `step`, in the file too, which is left alone if it has none of them.
  void truncate(std::int64_t step) {
    const auto dropped = std::erase_if(points_, [&](const LossPoint& point) { return point.step > step; });
    if (dropped == 0 && written_ == points_.size()) return;
    written_ = 0;
    flush();
  }

  /// Writes the points that are not in the file yet. Throws `Error` on I/O failure.
  void flush() {
    if (path_.empty()) return;
    std::error_code problem;
    if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path(), problem);
    require(!problem, "cannot write '{}': {}", path_.string(), problem.message());
    const auto first = std::exchange(written_, 0);  // after a partial failure the next call rewrites everything
    std::string text = first == 0 ? fmt::format("{}\n", columns) : std::string();
    for (std::size_t i = first; i < points_.size(); ++i) {
      const auto& point = points_[i];
      text += fmt::format("{},{:.6g},{:.6g},{:.3f}\n", point.step, point.loss, point.rate, point.seconds);
    }
    if (first == 0) {
      remove_temporaries_of(path_);
      write_file_atomically(path_, std::as_bytes(std::span(text)));
    } else {
      std::ofstream file(path_, std::ios::app);
      file << text << std::flush;
      require(file.good(), "cannot write '{}'", path_.string());
    }
    written_ = points_.size();
  }

  /// All points, in order.
  [[nodiscard]] const std::vector<LossPoint>& points() const { return points_; }

  /// Reads a file that `flush()` wrote. A last line without a newline, left by a crash, is skipped.
  /// \param whole if given, set to whether no line was skipped  \throws Error for a malformed line
  static std::vector<LossPoint> read(const std::filesystem::path& path, bool* whole = nullptr) {
    std::ifstream file(path);
    require(file.good(), "cannot open '{}'", path.string());
    std::vector<LossPoint> points;
    std::string line;
    const auto next = [&] { return std::getline(file, line) && !file.eof(); };
    if (next()) {
      require(line == columns, "{}: expected the header of a loss curve, found '{}'", path.string(), line);
    } else {
      require(columns.starts_with(line), "{}: expected the header of a loss curve, found '{}'", path.string(), line);
      line = columns;  // the remaining text counts as torn
    }
    while (next()) {
      std::istringstream fields(line);
      LossPoint point;
      char comma[3]{};
      fields >> point.step >> comma[0] >> point.loss >> comma[1] >> point.rate >> comma[2] >> point.seconds;
      require(!fields.fail(), "{}: line {}: expected step,loss,learning_rate,seconds, found '{}'", path.string(),
              points.size() + 2, line);
      points.push_back(point);
    }
    detail::require_read(file, path);
    if (whole != nullptr) *whole = line.empty();
    return points;
  }

 private:
  static constexpr std::string_view columns = "step,loss,learning_rate,seconds";

  std::filesystem::path path_;
  std::vector<LossPoint> points_;
  std::size_t written_ = 0;
};

}  // namespace ip2p
