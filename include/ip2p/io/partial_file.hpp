#pragma once

/// \file
/// A file that comes in pieces, over several runs if need be.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// A file that is being fetched. Bytes are written at their places, so that two processes on a file system without
/// locks write the same.
class PartialFile {
 public:
  explicit PartialFile(std::filesystem::path path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    require(descriptor_ >= 0, "cannot write '{}': {}", path_.string(), errno_text(errno));
    struct stat found {};
    if (::fstat(descriptor_, &found) == 0) size_ = static_cast<std::uint64_t>(found.st_size);
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  [[nodiscard]] std::uint64_t size() const { return size_; }

  /// Appends. \return 0, or the system's error number
  int append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto count = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return count < 0 ? errno : ENOSPC;
      size_ += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return 0;
  }

  /// Discards what has been written.
  void restart() {
    require(::ftruncate(descriptor_, 0) == 0, "cannot write '{}': {}", path_.string(), errno_text(errno));
    size_ = 0;
  }

  /// Shows all bytes to a function. \throws Error if they cannot be read
  template <class See>
  void read(See&& see) const {
    std::vector<std::byte> buffer(std::size_t{1} << 20);
    for (std::uint64_t place = 0; place < size_;) {
      const auto count = ::pread(descriptor_, buffer.data(), buffer.size(), static_cast<off_t>(place));
      if (count < 0 && errno == EINTR) continue;
      require(count > 0, "cannot read '{}': {}", path_.string(), count < 0 ? errno_text(errno) : "it became shorter");
      see(std::span(buffer).first(static_cast<std::size_t>(count)));
      place += static_cast<std::uint64_t>(count);
    }
  }

  /// Moves the complete file to its place. \throws Error if the system refuses
  void commit(const std::filesystem::path& target) {
    static_cast<void>(::fsync(descriptor_));
    require(::rename(path_.c_str(), target.c_str()) == 0, "cannot write '{}': {}", target.string(), errno_text(errno));
    sync_folder(target.parent_path());
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace ip2p::detail
