#pragma once

/// \file
/// A file opened for reading at any place.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/checked.hpp"

namespace ip2p::detail {

/// An open file descriptor with the size that the file had when it was validated.
class OpenedFile {
 public:
  explicit OpenedFile(const std::filesystem::path& path) : name_(path.string()) {
    // O_NONBLOCK: a FIFO under this name must be refused below rather than waited for.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    require(descriptor_ >= 0, "cannot open '{}': {}", name_, errno_text(errno));
    struct stat status {};
    const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular) {
      ::close(descriptor_);
      throw_error("cannot open '{}': expected a regular file", name_);
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;
  ~OpenedFile() { ::close(descriptor_); }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  /// Fills `target` from byte `offset` on. Throws `Error` on an I/O error or if the file has become shorter.
  void read(std::span<std::byte> target, std::uint64_t offset) const {
    while (!target.empty()) {
      const std::size_t wanted = std::min<std::size_t>(target.size(), std::size_t{1} << 30);
      const ssize_t got = ::pread(descriptor_, target.data(), wanted, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      require(got >= 0, "cannot read '{}': {}", name_, errno_text(errno));
      require(got > 0, "cannot read '{}': the file shrank to less than {} bytes after it was opened with {}", name_,
              offset + 1, size_);
      target = target.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
  }

  /// The bytes [offset, offset + length), length > 0, as a private writable mapping of their own pages: a write stays
  /// in this process and never reaches the file, and the pages go when the last owner goes. Throws `Error` if the file
  /// has become shorter. Memory beyond the new end of a file that shrinks later cannot be touched without a SIGBUS.
  [[nodiscard]] std::shared_ptr<std::byte> map(std::uint64_t offset, std::size_t length) const {
    struct stat status {};
    require(
        ::fstat(descriptor_, &status) == 0 && lies_within(offset, length, static_cast<std::uint64_t>(status.st_size)),
        "cannot map '{}': the file shrank to {} bytes after it was opened with {}", name_, status.st_size, size_);
    const std::uint64_t lead = offset % static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t span = length + static_cast<std::size_t>(lead);
    // MAP_NORESERVE: a file larger than the free memory can be mapped, since only written pages take any.
    void* pages = ::mmap(nullptr, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor_,
                         static_cast<off_t>(offset - lead));
    require(pages != MAP_FAILED, "cannot map '{}': {}", name_, errno_text(errno));
    ::madvise(pages, span, MADV_WILLNEED);
    return {static_cast<std::byte*>(pages) + lead, [pages, span](std::byte*) { ::munmap(pages, span); }};
  }

 private:
  std::string name_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace ip2p::detail
