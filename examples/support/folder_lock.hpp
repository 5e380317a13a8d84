#pragma once

/// \file
/// Folders that one process at a time works in.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <set>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace example {

/// Removes the temporary files of `ip2p::AtomicFile` that killed processes left among these entries of folders.
template <class Entries>
void remove_temporaries_among(Entries entry, std::error_code code) {
  constexpr std::size_t around = 22;  // characters of ".NAME.0123456789abcdef.tmp" besides NAME
  std::set<std::filesystem::path> files;
  for (const Entries end; !code && entry != end; entry.increment(code)) {
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
  /// \param folder that exists  \param own names of folders in it that nobody writes to without this lock; others in
  /// it may be in use  \throws Error if another process has locked it, or if it cannot be opened
  explicit FolderLock(const std::filesystem::path& folder, std::initializer_list<const char*> own = {})
      : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    ip2p::require(descriptor_ >= 0, "cannot open the folder '{}': {}", folder.string(),
                  ip2p::detail::errno_text(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
      std::error_code code;
      const std::filesystem::directory_iterator inside(folder, code);
      remove_temporaries_among(inside, code);
      for (const auto* name : own) {
        const std::filesystem::recursive_directory_iterator below(folder / name, code);
        remove_temporaries_among(below, code);
      }
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
