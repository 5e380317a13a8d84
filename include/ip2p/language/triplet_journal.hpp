#pragma once

/// \file
/// A JSON-lines output file that can be resumed after an interruption with identical bytes.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/journal_file.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/sealed_json.hpp"

namespace ip2p::detail {

/// Output of a run of numbered units, with `<output>.journal` beside it: a line with the run's settings, then one per
/// unit with the output's length after it, the run's counts so far and a checksum. Anything after the last complete
/// unit is cut off, so a resumed run ends with the same bytes as an uninterrupted one. Until the first unit is
/// complete, there are no files, and the settings are not binding.
class TripletJournal {
 public:
  /// Opens both files, if they are there, and resumes where they end. \param settings everything that the units'
  /// results depend on  \param change go on with other settings than the run's, which the journal then records between
  /// units \throws Error when the files belong to a run with other settings, or the output is shorter than the journal
  /// says, or another process is writing them
  TripletJournal(const std::filesystem::path& output, nlohmann::json settings, bool change = false)
      : where_(output.string() + ".journal"), path_(checked(output)), settings_(std::move(settings)) {
    std::error_code none;
    if (std::filesystem::exists(where_)) read_ = static_cast<std::int64_t>(std::filesystem::file_size(where_, none));
    std::ifstream file(where_, std::ios::binary);
    std::int64_t whole = 0, length = 0;
    nlohmann::json found;
    for (std::string line; std::getline(file, line) && !file.eof();) {
      const auto record = unsealed_line(line);
      if (!record) break;
      if (record->contains("settings")) {
        found = record->at("settings");
      } else {
        const auto unit = whole_number(*record, "unit"), end = whole_number(*record, "bytes");
        require(unit == next_ && end >= length && record->contains("counts"),
                "{}: after byte {}: expected unit {} with the bytes and counts up to it, found {}", where_, whole,
                next_, json_text(*record));
        ++next_;
        length = *end;
        counts_ = record->at("counts");
      }
      whole += static_cast<std::int64_t>(line.size()) + 1;
    }
    detail::require_read(file, where_);  // the rest would be cut off
    const auto bytes =
        static_cast<std::int64_t>(std::filesystem::exists(path_) ? std::filesystem::file_size(path_, none) : 0);
    require(!found.is_null() || bytes == 0, "{}: exists, but its journal {} is missing", output.string(), where_);
    require(bytes >= length, "{}: expected at least {} bytes, as {} says, found {}", output.string(), length, where_,
            bytes);
    if (next_ == 0) return;
    const auto differing = differing_setting(settings_, found);
    require(differing.empty() || change,
            "{}: belongs to a run with other captions, model or settings: {}; choose another name, or delete it "
            "and {}",
            where_, differing, output.string());
    headed_ = differing.empty();
    open();
    cut(*output_, length);
    cut(*journal_, whole);
  }

  /// Number of finished units, which is also the index of the next one.
  [[nodiscard]] std::int64_t next() const { return next_; }

  /// Counts after the last unit; null before the first.
  [[nodiscard]] const nlohmann::json& counts() const { return counts_; }

  /// Appends a unit's lines, each with its newline, to the output. They are durable when this returns. \throws Error on
  /// I/O failure, and when another process has begun to write the files
  void finish(std::string_view lines, const nlohmann::json& counts) {
    if (!output_) {
      open();
      cut(*journal_, 0);
    }
    if (!headed_) add({{"settings", settings_}});  // first, so that nobody takes the output for a file of the user's
    headed_ = true;
    if (next_ == 0) cut(*output_, 0);
    output_->append(lines);
    add({{"unit", next_}, {"bytes", output_->size()}, {"counts", counts}});
    counts_ = counts;
    ++next_;
  }

 private:
  /// The number under `key` that is at least 0, or nothing.
  static std::optional<std::int64_t> whole_number(const nlohmann::json& record, const char* key) {
    const auto found = record.find(key);
    if (found == record.end() || !found->is_number_unsigned()) return {};
    const auto value = found->get<std::uint64_t>();
    if (value > static_cast<std::uint64_t>(INT64_MAX)) return {};
    return static_cast<std::int64_t>(value);
  }
  static std::filesystem::path checked(const std::filesystem::path& output) {
    const auto folder = output.has_parent_path() ? output.parent_path() : std::filesystem::path(".");
    require(std::filesystem::is_directory(folder), "cannot write '{}': there is no folder '{}'", output.string(),
            folder.string());
    return output;
  }
  /// \throws Error if another process writes to the files, or did since they were read
  void open() {
    journal_.emplace(where_);
    if (!journal_->lock() || journal_->size() != read_) {
      journal_.reset();  // and what was locked
      throw_error("{}: expected no other process writing to it, found one", where_);
    }
    output_.emplace(path_);
  }
  /// A file that ends there already is left alone.
  static void cut(AppendedFile& file, std::int64_t size) {
    if (file.size() != size) file.truncate(size);
  }
  void add(const nlohmann::json& record) { journal_->append(sealed_line(record)); }

  std::string where_;
  std::filesystem::path path_;
  nlohmann::json settings_;
  std::optional<AppendedFile> output_, journal_;
  bool headed_ = false;    ///< Whether the journal's last settings are these.
  std::int64_t read_ = 0;  ///< Bytes of the journal when it was read.
  std::int64_t next_ = 0;
  nlohmann::json counts_;
};

}  // namespace ip2p::detail
