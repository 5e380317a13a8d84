#pragma once

/// \file
/// What a run that can be continued depends on, kept beside its results: whoever continues it either asks for the same,
/// or is told what differs.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace CLI {
class App;
}

namespace example {

/// Values of a command's options by long name, given or default; flags are "true" or "false".
using OptionValues = std::map<std::string, std::vector<std::string>>;

/// Those of a parsed command.
OptionValues option_values(const CLI::App& command);

/// Adds --change: go on with other settings than the run had so far.
void add_change(CLI::App& app, bool& change);

/// The options that the results of a run depend on: all but those that no result of any program depends on (--device,
/// --threads and the like), and those of `free`, which cannot change this program's.
nlohmann::json settings_of(const OptionValues& values, std::initializer_list<std::string_view> free);

/// A setting that is what a path leads to. Two are equal if their contents are, whatever the paths.
/// \param content a digest, as those of contents.hpp
nlohmann::json content_setting(const std::filesystem::path& given, const std::string& content);

/// A setting that is many things, each known by its content. Two are equal if what both name is equal: a run may take
/// more or fewer of them than it did. \param contents digests by name
nlohmann::json parts_setting(const std::filesystem::path& given, const std::map<std::string, std::string>& contents);

/// The settings of a run, on disk. Several processes may share one.
///
/// \code
/// RunRecord record(out / "run.json", settings, [&] { return has_checkpoints(out); });
/// record.agree(o.change);  // throws where settings differ
/// if (record.finished() >= steps) return;
/// record.begin(step);      // before the first result
/// ...
/// record.finish(step);     // after the last one
/// \endcode
class RunRecord {
 public:
  /// \param file where the settings are kept; its folder need not exist before `begin`
  /// \param settings by the names of their options
  /// \param begun whether there is any result that depends on the settings; a record without results binds nobody
  RunRecord(std::filesystem::path file, nlohmann::json settings, std::function<bool()> begun);
  RunRecord(const RunRecord&) = delete;
  RunRecord& operator=(const RunRecord&) = delete;

  /// Removes a record of its own making if the run ended without a result.
  ~RunRecord();

  /// Compares the settings with those of the run so far. \param change take those that differ
  /// \throws Error that names each difference, with what the run had and what was given
  void agree(bool change);

  /// The same where results of different settings cannot be continued by each other.
  void agree();

  /// Whether `agree` took settings that differ.
  [[nodiscard]] bool changed() const { return !had_.empty(); }

  /// Writes the settings unless they are there already. \param step from which on they count: so many are made. If they
  /// differ from those before, what was made beyond it no longer counts
  /// \throws Error on I/O failure, and when another process has begun the run with other settings meanwhile
  void begin(std::int64_t step);

  /// Notes that everything up to `step` is done and written.
  void finish(std::int64_t step);

  /// The last step that was noted as done and written; -1 for none.
  [[nodiscard]] std::int64_t finished() const;

  /// Where settings changed, a line each: "after 3 steps: --rate 0.0001 -> 5e-05".
  [[nodiscard]] std::vector<std::string> changes() const;

  /// All of it, as the file holds it once `begin` was called.
  [[nodiscard]] const nlohmann::json& json() const { return record_; }

 private:
  /// What messages call the run: its folder, or its file.
  [[nodiscard]] std::string where() const;
  void compare();
  /// \param advice what to do
  [[noreturn]] void refuse(std::string_view advice) const;
  void write() const;

  std::filesystem::path file_;
  nlohmann::json settings_;
  std::function<bool()> begun_;
  nlohmann::json record_;  ///< {"settings", "changes": [{"step", "had"}], "finished"}.
  nlohmann::json had_;     ///< Settings that differed, as the run had them.
  bool made_ = false;      ///< Whether there was no record before.
  bool grown_ = false;     ///< Whether a setting has parts that the record lacks.
};

}  // namespace example
