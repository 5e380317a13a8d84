#pragma once

/// \file
/// A lock file shared by processes on one machine, and across machines if the file system supports locks.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// Holds a lock by flock(2), like Python's filelock, so that each excludes the other. The lock is released when the
/// process ends. On a file system without locks, nobody else is assumed to be at work.
class FileLock {
 public:
  /// \param path of a file that is made if it is absent  \throws Error if it cannot be opened
  explicit FileLock(std::filesystem::path path) : path_(std::move(path)) {}
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() { release(); }

  /// Tries once. \return whether the lock is held
  bool try_lock() {
    if (descriptor_ >= 0) return true;
    const int descriptor = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    require(descriptor >= 0, "cannot open '{}': {}", path_.string(), errno_text(errno));
    const bool locked = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR);
    // filelock may delete the file when it releases its lock; this would then lock a file that nobody else will open.
    struct stat held {
    }, named{};
    const bool same = ::fstat(descriptor, &held) == 0 && ::stat(path_.c_str(), &named) == 0 &&
                      held.st_dev == named.st_dev && held.st_ino == named.st_ino;
    if (!locked || !same) {
      ::close(descriptor);
      return false;
    }
    descriptor_ = descriptor;
    return true;
  }

  /// Releases the lock.
  void release() noexcept {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace ip2p::detail
