#pragma once

/// \file
/// The record of a training run: one line an update, as CSV.

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// One update on the curve.
struct LossPoint {
  std::int64_t step = 0;  ///< Updates made, this one included.
  double loss = 0.0;
  double rate = 0.0;     ///< Learning rate.
  double seconds = 0.0;  ///< Wall time since the start of the run.
};

/// Points in memory and, with a path, as CSV with the columns step, loss, learning_rate, seconds. Points reach the file
/// at `flush()`, which a run calls together with its checkpoint, so that both tell the same story after a crash.
class LossCurve {
 public:
  /// \param path file to write; empty keeps the points in memory only. An existing file is read.
  explicit LossCurve(std::filesystem::path path = {}) : path_(std::move(path)) {
    if (path_.empty() || !std::filesystem::exists(path_)) return;
    points_ = read(path_);
    written_ = points_.size();
  }

  void add(const LossPoint& point) { points_.push_back(point); }

  /// Drops the points after `step` and rewrites the file.
  void truncate(std::int64_t step) {
    std::erase_if(points_, [&](const LossPoint& point) { return point.step > step; });
    written_ = 0;
    flush();
  }

  /// Writes what is not in the file yet. Throws `Error` on I/O failure.
  void flush() {
    if (path_.empty()) return;
    if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path());
    std::ofstream file(path_, written_ == 0 ? std::ios::trunc : std::ios::app);
    if (written_ == 0) file << "step,loss,learning_rate,seconds\n";
    for (; written_ < points_.size(); ++written_) {
      const auto& point = points_[written_];
      file << fmt::format("{},{:.6g},{:.6g},{:.3f}\n", point.step, point.loss, point.rate, point.seconds);
    }
    file.flush();
    require(file.good(), "cannot write '{}'", path_.string());
  }

  [[nodiscard]] const std::vector<LossPoint>& points() const { return points_; }

  /// Reads a file that `flush()` wrote. Throws `Error` for a line of another form.
  static std::vector<LossPoint> read(const std::filesystem::path& path) {
    std::ifstream file(path);
    require(file.good(), "cannot open '{}'", path.string());
    std::vector<LossPoint> points;
    std::string line;
    std::getline(file, line);
    require(line == "step,loss,learning_rate,seconds", "{}: expected the header of a loss curve, found '{}'",
            path.string(), line);
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      LossPoint point;
      char comma[3]{};
      fields >> point.step >> comma[0] >> point.loss >> comma[1] >> point.rate >> comma[2] >> point.seconds;
      require(!fields.fail(), "{}: line {}: expected step,loss,learning_rate,seconds, found '{}'", path.string(),
              points.size() + 2, line);
      points.push_back(point);
    }
    return points;
  }

 private:
  std::filesystem::path path_;
  std::vector<LossPoint> points_;
  std::size_t written_ = 0;
};

}  // namespace ip2p
