#pragma once

/// \file
/// Scores of single edits on disk, written as they are computed by any number of processes, and read together.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/journal_file.hpp"
#include "ip2p/io/sealed_json.hpp"

namespace ip2p {

/// Scores of a picture by name.
using EditMeasures = std::map<std::string, double>;

namespace detail {

/// The name of a process's journal.
inline std::string sweep_journal_name(std::int64_t rank) { return fmt::format("samples-{:04}.jsonl", rank); }

/// Passes every complete line to `visit`, except the first, which holds the evaluation's settings.
/// \return the bytes of all complete lines; a line torn by a kill has no newline
/// \throws Error when the file belongs to another evaluation
template <class Visit>
std::int64_t read_sweep_journal(const std::filesystem::path& path, const nlohmann::json& settings, Visit&& visit) {
  std::ifstream lines(path, std::ios::binary);
  require(lines.good(), "{}: cannot open", path.string());
  std::int64_t whole = 0;
  for (std::string line; std::getline(lines, line) && !lines.eof();) {
    if (whole == 0) {
      const auto header = unsealed_line(line);
      require(header && header->contains("settings"),
              "{}: expected a journal of samples, found another file or a damaged one", path.string());
      const auto differing = differing_setting(settings, header->at("settings"));
      require(differing.empty(), "{}: belongs to another evaluation: {}; choose another folder, or delete it",
              path.string(), differing);
    } else {
      visit(line);
    }
    whole += static_cast<std::int64_t>(line.size()) + 1;
  }
  require_read(lines, path);  // the rest would be cut off
  return whole;
}

}  // namespace detail

/// One process's growing list of scores: a line with the evaluation's settings, then one per sample, each with its own
/// checksum. A sample is recorded once `add` returns; a torn last line is cut off when the file is opened again. A file
/// without samples goes with its writer.
class SweepJournal {
 public:
  /// \param folder must exist  \param settings an object with everything that all samples depend on
  /// \throws Error when the file belongs to another evaluation, or another process has it open
  SweepJournal(const std::filesystem::path& folder, std::int64_t rank, const nlohmann::json& settings)
      : where_((folder / detail::sweep_journal_name(rank)).string()), file_(where_) {
    require(file_.lock(), "{}: expected no other process writing to it, found one", where_);
    const auto whole = detail::read_sweep_journal(where_, settings, [this](const auto&) { empty_ = false; });
    file_.truncate(whole);
    if (whole == 0) file_.append(detail::sealed_line({{"settings", settings}}));
  }

  SweepJournal(const SweepJournal&) = delete;
  SweepJournal& operator=(const SweepJournal&) = delete;

  ~SweepJournal() {
    std::error_code ignored;
    if (empty_) std::filesystem::remove(where_, ignored);
  }

  /// \param point `SweepPoint::key()`  \param edit `PreparedEdit::id`
  /// \throws Error for scores that are not finite
  void add(const std::string& point, const std::string& edit, const EditMeasures& scores) {
    for (const auto& [name, value] : scores) {
      require(std::isfinite(value), "{}, {}: {}: expected a finite score, found {}", edit, point, name, value);
    }
    file_.append(detail::sealed_line({{"point", point}, {"edit", edit}, {"scores", scores}}));
    empty_ = false;
  }

 private:
  std::string where_;
  detail::AppendedFile file_;
  bool empty_ = true;
};

/// The samples of all journals in a folder.
class SweepResults {
 public:
  /// Reads all journals, even while other processes write. Damaged lines are left out and counted.
  /// \throws Error when a journal belongs to another evaluation
  static SweepResults read(const std::filesystem::path& folder, const nlohmann::json& settings) {
    SweepResults results;
    std::vector<std::filesystem::path> journals;
    for (const auto& entry : detail::folder_entries(folder)) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("samples-") && name.ends_with(".jsonl")) journals.push_back(entry.path());
    }
    std::sort(journals.begin(), journals.end());
    for (const auto& path : journals) results.read_journal(path, settings);
    return results;
  }

  /// Scores of an edit at a point, or nullptr.
  [[nodiscard]] const EditMeasures* find(const std::string& point, const std::string& edit) const {
    const auto found = samples_.find({point, edit});
    return found == samples_.end() ? nullptr : &found->second;
  }

  /// Samples that were read.
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(samples_.size()); }
  [[nodiscard]] std::int64_t damaged() const { return damaged_; }  ///< Lines that were left out.

 private:
  void read_journal(const std::filesystem::path& path, const nlohmann::json& settings) {
    detail::read_sweep_journal(path, settings, [this](const std::string& line) {
      const auto record = detail::unsealed_line(line);
      try {
        if (record) {
          samples_.emplace(std::pair(record->at("point").get<std::string>(), record->at("edit").get<std::string>()),
                           record->at("scores").get<EditMeasures>());
          return;
        }
      } catch (const nlohmann::json::exception&) {  // whole, and no sample all the same
      }
      ++damaged_;
    });
  }

  std::map<std::pair<std::string, std::string>, EditMeasures> samples_;
  std::int64_t damaged_ = 0;
};

}  // namespace ip2p
