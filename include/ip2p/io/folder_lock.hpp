#pragma once

/// \file
/// Folders in which only one process works at a time, or several that know of each other.

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
/// If it leaves temporary files, the next process that is alone in the folder removes them.
class FolderLock {
 public:
  /// Keeps other processes out of a folder. On a file system without locks, nobody else is assumed to be at work.
  /// \param folder must exist  \param own names of subfolders that nobody writes to without this lock; others may be in
  /// use \throws Error if another process has locked it, or if it cannot be opened
  explicit FolderLock(const std::filesystem::path& folder, std::initializer_list<const char*> own = {})
      : FolderLock(open(folder)) {
    const bool alone = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    require(alone, "{}: expected no other process working in this folder, found one", folder.string());
    remove_temporaries_in(folder);
    for (const auto* name : own) remove_temporaries_below(folder / name);
  }

  /// Works in a folder together with others that share it, such as a cache; waits for one that is just entering it. A
  /// process that enters alone removes temporary files in the folder and below, unless the file system has no locks.
  /// \param folder must exist  \throws Error if it cannot be opened
  [[nodiscard]] static FolderLock shared(const std::filesystem::path& folder) {
    FolderLock lock(open(folder));
    if (::flock(lock.descriptor_, LOCK_EX | LOCK_NB) == 0) remove_temporaries_below(folder);
    while (::flock(lock.descriptor_, LOCK_SH) != 0 && errno == EINTR) {
    }
    return lock;
  }

  /// Works on a file in a folder together with others, as `shared`, but removes temporary files of that file alone, and
  /// waits for nobody. \throws Error if the folder cannot be opened
  [[nodiscard]] static FolderLock shared_for(const std::filesystem::path& file) {
    FolderLock lock(open(file.has_parent_path() ? file.parent_path() : std::filesystem::path(".")));
    if (::flock(lock.descriptor_, LOCK_EX | LOCK_NB) == 0) remove_temporaries_of(file);
    static_cast<void>(::flock(lock.descriptor_, LOCK_SH | LOCK_NB));
    return lock;
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
