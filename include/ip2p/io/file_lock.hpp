#pragma once

/// \file
/// A lock that processes on one machine, and on file systems that pass locks on, share by a file.

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

/// Holds a lock by flock(2), as Python's filelock does, so that both exclude each other. A process that ends gives its
/// lock back. A file system without locks is treated as one on which nobody else works.
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
    // filelock may remove the file when it lets go: then this is the lock of a file that nobody else will open.
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

  /// Gives the lock back.
  void release() noexcept {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace ip2p::detail
