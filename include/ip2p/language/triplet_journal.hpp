#pragma once

/// \file
/// A JSON-lines output file that can be resumed after an interruption with identical bytes.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/journal_file.hpp"
#include "ip2p/io/sealed_json.hpp"

namespace ip2p::detail {

/// Output of a run of numbered units, with `<output>.journal` beside it: a line with the run's settings, then one per
/// unit with the output's length after it, the run's counts so far and a checksum. Anything after the last complete
/// unit is cut off, so a resumed run ends with the same bytes as an uninterrupted one.
class TripletJournal {
 public:
  /// Opens both files and resumes where they end. \param settings everything that the units' results depend on
  /// \throws Error when the files belong to a run with other settings, or the output is shorter than the journal says
  TripletJournal(const std::filesystem::path& output, const nlohmann::json& settings)
      : where_(output.string() + ".journal"), output_(checked(output)), journal_(where_) {
    std::ifstream file(where_, std::ios::binary);
    std::int64_t whole = 0, length = 0;
    bool headed = false;
    for (std::string line; std::getline(file, line) && !file.eof();) {
      const auto record = unsealed_line(line);
      if (!record) break;
      if (!headed) {
        const auto differing = differing_setting(settings, record->value("settings", nlohmann::json::object()));
        require(differing.empty(),
                "{}: belongs to a run with other captions, model or settings: {}; choose another name, or delete it "
                "and {}",
                where_, differing, output.string());
        headed = true;
      } else {
        next_ = record->at("unit").get<std::int64_t>() + 1;
        length = record->at("bytes").get<std::int64_t>();
        counts_ = record->at("counts");
      }
      whole += static_cast<std::int64_t>(line.size()) + 1;
    }
    require(headed || output_.size() == 0, "{}: exists, but its journal {} is missing", output.string(), where_);
    require(output_.size() >= length, "{}: expected at least {} bytes, as {} says, found {}", output.string(), length,
            where_, output_.size());
    output_.truncate(length);
    journal_.truncate(whole);
    if (!headed) add({{"settings", settings}});
  }

  /// Number of finished units, which is also the index of the next one.
  [[nodiscard]] std::int64_t next() const { return next_; }

  /// Counts after the last unit; null before the first.
  [[nodiscard]] const nlohmann::json& counts() const { return counts_; }

  /// Appends a unit's lines, each with its newline, to the output. They are durable when this returns. \throws Error on
  /// I/O failure
  void finish(std::string_view lines, const nlohmann::json& counts) {
    output_.append(lines);
    add({{"unit", next_}, {"bytes", output_.size()}, {"counts", counts}});
    counts_ = counts;
    ++next_;
  }

 private:
  static std::filesystem::path checked(const std::filesystem::path& output) {
    const auto folder = output.has_parent_path() ? output.parent_path() : std::filesystem::path(".");
    require(std::filesystem::is_directory(folder), "cannot write '{}': there is no folder '{}'", output.string(),
            folder.string());
    return output;
  }
  void add(const nlohmann::json& record) { journal_.append(sealed_line(record)); }

  std::string where_;
  AppendedFile output_, journal_;
  std::int64_t next_ = 0;
  nlohmann::json counts_;
};

}  // namespace ip2p::detail
