#pragma once

/// \file
/// Folders for results, of which failed runs leave none.

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/make_folder.hpp"

namespace example {

/// Makes a folder, with its parents, and removes again what is empty at the end of those that it made. Removes what
/// killed processes left in it.
class OutputFolder {
 public:
  /// \throws Error if it cannot be made
  explicit OutputFolder(std::filesystem::path path) : path_(std::move(path)) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    if (!path_.has_filename()) path_ = path_.parent_path();  // "set/" as "set"
    for (auto part = path_; !part.empty() && !fs::exists(part, ignored); part = part.parent_path()) {
      made_.push_back(part);
    }
    ip2p::make_folder(path_);
    ip2p::remove_temporaries_in(path_);
  }
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  ~OutputFolder() {
    if (made_.empty()) return;
    remove_empty(path_);
    std::error_code ignored;
    for (const auto& part : made_) std::filesystem::remove(part, ignored);  // refused where it is not empty
  }

 private:
  /// Removes folders in `folder` that hold nothing but empty ones.
  static void remove_empty(const std::filesystem::path& folder) {
    std::error_code problem, ignored;
    std::vector<std::filesystem::path> inner;
    std::filesystem::directory_iterator entry(folder, problem);
    for (const std::filesystem::directory_iterator end; !problem && entry != end; entry.increment(problem)) {
      if (!entry->is_directory(ignored) || entry->is_symlink(ignored)) return;  // kept, with what lies beside it
      inner.push_back(entry->path());
    }
    for (const auto& part : inner) {
      remove_empty(part);
      std::filesystem::remove(part, ignored);
    }
  }

  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  ///< Innermost first.
};

}  // namespace example
