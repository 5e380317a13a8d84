#pragma once

/// \file
/// Folders that one process at a time works in.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace example {

/// Removes the temporary files of `ip2p::AtomicFile` that killed processes left in a folder and those in it. For the
/// sole process that writes there.
inline void remove_temporaries_in(const std::filesystem::path& folder) {
  constexpr std::size_t around = 22;  // characters of ".NAME.0123456789abcdef.tmp" besides NAME
  std::set<std::filesystem::path> files;
  std::error_code code;
  std::filesystem::recursive_directory_iterator entry(folder, code);
  for (const std::filesystem::recursive_directory_iterator end; !code && entry != end; entry.increment(code)) {
    const auto name = entry->path().filename().string();
    if (name.size() > around && name.starts_with('.') && name.ends_with(".tmp")) {
      files.insert(entry->path().parent_path() / name.substr(1, name.size() - around));
    }
  }
  for (const auto& file : files) ip2p::remove_temporaries_of(file);
}

/// Keeps other processes out of a folder, by a lock of the folder itself (flock(2)), so that nothing is left in it. A
/// process that ends, however it ends, gives its lock back; what it left half-written, the next to lock the folder
/// removes. A file system without locks is treated as one on which nobody else works.
class FolderLock {
 public:
  /// \param folder that exists  \throws Error if another process has locked it, or if it cannot be opened
  explicit FolderLock(const std::filesystem::path& folder)
      : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    ip2p::require(descriptor_ >= 0, "cannot open the folder '{}': {}", folder.string(),
                  ip2p::detail::errno_text(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
      remove_temporaries_in(folder);
      return;
    }
    ::close(descriptor_);
    ip2p::throw_error("{}: expected no other process working in this folder, found one", folder.string());
  }
  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

 private:
  int descriptor_;
};

}  // namespace example
