#pragma once

/// \file
/// Folders in which only one process works at a time.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <initializer_list>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p {

/// Locks the folder itself (flock(2)), so no lock file is left behind. The lock is released however the process ends.
class FolderLock {
 public:
  /// Keeps other processes out of a folder and removes what killed ones left in it (`remove_temporaries_in`). On a file
  /// system without locks, nobody else is assumed to be at work.
  /// \param folder must exist  \param own names of subfolders in which, and below, temporary files are removed too
  /// \throws Error if another process has locked it, or if it cannot be opened
  explicit FolderLock(const std::filesystem::path& folder, std::initializer_list<const char*> own = {})
      : FolderLock(open(folder)) {
    const bool alone = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    require(alone, "{}: expected no other process working in this folder, found one", folder.string());
    remove_temporaries_in(folder);
    for (const auto* name : own) remove_temporaries_below(folder / name);
  }

  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

 private:
  explicit FolderLock(int descriptor) : descriptor_(descriptor) {}

  static int open(const std::filesystem::path& folder) {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(descriptor >= 0, "cannot open the folder '{}': {}", folder.string(), detail::errno_text(errno));
    return descriptor;
  }

  int descriptor_;
};

}  // namespace ip2p
