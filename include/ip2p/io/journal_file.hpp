#pragma once

/// \file
/// Append-only files whose every append is flushed to disk.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// An append-only file; each `append` is on disk when it returns. Failures throw `Error` naming the path.
class AppendedFile {
 public:
  explicit AppendedFile(std::filesystem::path path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    require(descriptor_ >= 0, "cannot write '{}': {}", path_.string(), errno_text(errno));
  }
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;
  ~AppendedFile() { ::close(descriptor_); }

  [[nodiscard]] std::int64_t size() const {
    struct stat info {};
    const bool told = ::fstat(descriptor_, &info) == 0;
    require(told, "cannot read '{}': {}", path_.string(), errno_text(errno));
    return info.st_size;
  }

  /// Takes an exclusive lock, held while the file is open. False if another process holds it.
  [[nodiscard]] bool lock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

  void truncate(std::int64_t size) {
    const bool cut = ::ftruncate(descriptor_, size) == 0;  // before errno is read
    require(cut, "cannot write '{}': {}", path_.string(), errno_text(errno));
  }

  void append(std::string_view text) {
    while (!text.empty()) {
      const auto written = ::write(descriptor_, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      require(written > 0, "cannot write '{}': {}", path_.string(), errno_text(errno));
      text.remove_prefix(static_cast<std::size_t>(written));
    }
    while (::fsync(descriptor_) != 0) {
      if (errno == EINTR) continue;
      require(errno == EINVAL || errno == ENOTSUP, "cannot write '{}': {}", path_.string(), errno_text(errno));
      return;  // the file system does not support fsync
    }
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace ip2p::detail
