#pragma once

/// \file
/// The definitions behind atomic_file.hpp.

#include <ip2p/core/definitions.hpp>
#include <ip2p/core/error.hpp>
#include <ip2p/io/atomic_file.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

IP2P_INLINE std::string errno_text(int code) { return std::generic_category().message(code); }

IP2P_INLINE std::filesystem::path write_target(const std::filesystem::path& path) {
  std::filesystem::path target = path;
  std::error_code ignored;
  for (int hops = 0; hops < 40 && std::filesystem::is_symlink(target, ignored); ++hops) {
    const auto next = std::filesystem::read_symlink(target, ignored);
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  return target;
}

IP2P_INLINE void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(::fsync(descriptor));
  ::close(descriptor);
}

IP2P_INLINE bool is_temporary(std::string_view name) {
  constexpr std::size_t digits = 16, ending = digits + std::string_view("..tmp").size();
  if (name.size() <= 1 + ending || !name.starts_with('.') || !name.ends_with(".tmp")) return false;
  const auto end = name.substr(name.size() - ending);
  return end[0] == '.' && end.substr(1, digits).find_first_not_of("0123456789abcdef") == end.npos;
}

/// Removes a temporary file unless its writer, which holds a lock on it, is still at work.
IP2P_INLINE void remove_abandoned(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);  // NFS locks no O_RDONLY
  if (descriptor < 0) return;
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  ::close(descriptor);
}

/// Removes abandoned files among `entry` and those after it that `chosen` accepts by name; an error ends the search.
template <class Entries, class Chosen>
void remove_abandoned(Entries entry, std::error_code& code, const Chosen& chosen) {
  for (const Entries end; !code && entry != end; entry.increment(code)) {
    if (chosen(entry->path().filename().string())) remove_abandoned(entry->path());
  }
}

}  // namespace detail

IP2P_INLINE AtomicFile::AtomicFile(const std::filesystem::path& path) : target_(detail::write_target(path)) {
  require(target_.has_filename(), "cannot write '{}': expected the path of a file", path.string());
  folder_ = target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
  std::error_code ignored;
  require(std::filesystem::is_directory(folder_, ignored), "cannot write '{}': there is no folder '{}'", path.string(),
          folder_.string());
  struct stat existing {};
  const bool exists = ::stat(target_.c_str(), &existing) == 0;
  require(!exists || !S_ISDIR(existing.st_mode), "cannot write '{}': it is a folder", path.string());
  require(!exists || S_ISREG(existing.st_mode), "cannot write '{}': it exists and is not a regular file",
          path.string());
  open_temporary();
  if (exists) static_cast<void>(::fchmod(descriptor_, existing.st_mode & 07777));
}

IP2P_INLINE void AtomicFile::write(std::span<const std::byte> bytes) {
  require(descriptor_ >= 0, "cannot write '{}': the file is already committed", target_.string());
  while (!bytes.empty()) {
    // Linux transfers at most about 2 GiB per call; 1 GiB is within every platform's limit.
    const std::size_t wanted = bytes.size() < (std::size_t{1} << 30) ? bytes.size() : std::size_t{1} << 30;
    const ssize_t written = ::write(descriptor_, bytes.data(), wanted);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) give_up(written == 0 ? ENOSPC : errno, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

IP2P_INLINE void AtomicFile::commit() {
  require(descriptor_ >= 0, "cannot write '{}': the file is already committed", target_.string());
  sync(descriptor_);
  // Some file systems report a failed write only here; the copy holds the lock until the file has its name.
  const int lock = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
  int code = ::close(std::exchange(descriptor_, -1)) == 0 || errno == EINTR ? 0 : errno;
  const bool closed = code == 0;
  if (closed && ::rename(temporary_.c_str(), target_.c_str()) != 0) code = errno;
  if (lock >= 0) ::close(lock);
  if (code != 0) give_up(code, closed ? "rename" : "close");
  temporary_.clear();
  detail::sync_folder(folder_);  // makes the rename itself durable
}

IP2P_INLINE void AtomicFile::open_temporary() {
  std::random_device entropy;
  int code = EEXIST;
  for (int attempt = 0; attempt < 16 && code == EEXIST; ++attempt) {
    // Truncated to leave room for the suffix within the usual limit of 255 bytes.
    temporary_ = folder_ / fmt::format(".{}.{:08x}{:08x}.tmp", target_.filename().string().substr(0, 200),
                                       static_cast<std::uint32_t>(entropy()), static_cast<std::uint32_t>(entropy()));
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    code = descriptor_ < 0 ? errno : 0;
    if (code == 0 && !lock_temporary()) {
      discard();
      code = EEXIST;
    }
  }
  if (code != 0) {
    temporary_.clear();
    throw_error("cannot write '{}': creating a file in '{}' failed: {}", target_.string(), folder_.string(),
                detail::errno_text(code));
  }
}

IP2P_INLINE bool AtomicFile::lock_temporary() const {
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;  // file systems without locks
  struct stat found {};
  return ::fstat(descriptor_, &found) != 0 || found.st_nlink > 0;
}

IP2P_INLINE void AtomicFile::sync(int descriptor) {
  while (::fsync(descriptor) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP || errno == EROFS) return;  // file systems without fsync
    give_up(errno, "fsync");
  }
}

IP2P_INLINE void AtomicFile::give_up(int code, const char* operation) {
  discard();
  throw_error("cannot write '{}': {} failed: {}", target_.string(), operation, detail::errno_text(code));
}

IP2P_INLINE void AtomicFile::discard() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

IP2P_INLINE void remove_temporaries_of(const std::filesystem::path& path) {
  const auto start = "." + path.filename().string().substr(0, 200) + ".";
  std::error_code code;
  std::filesystem::directory_iterator inside(path.has_parent_path() ? path.parent_path() : ".", code);
  detail::remove_abandoned(std::move(inside), code, [&](const std::string& name) {
    return detail::is_temporary(name) && name.starts_with(start) && name.size() == start.size() + 20;
  });
}

IP2P_INLINE void remove_temporaries_in(const std::filesystem::path& folder) {
  std::error_code code;
  detail::remove_abandoned(std::filesystem::directory_iterator(folder, code), code, detail::is_temporary);
}

IP2P_INLINE void remove_temporaries_below(const std::filesystem::path& folder) {
  std::error_code code;
  detail::remove_abandoned(std::filesystem::recursive_directory_iterator(folder, code), code, detail::is_temporary);
}

IP2P_INLINE void write_file_atomically(const std::filesystem::path& path,
                                       std::span<const std::span<const std::byte>> parts) {
  AtomicFile file(path);
  for (const auto part : parts) file.write(part);
  file.commit();
}

IP2P_INLINE void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

}  // namespace ip2p
#endif
