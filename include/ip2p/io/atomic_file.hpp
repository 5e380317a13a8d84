#pragma once

/// \file
/// Atomic file writes: a file appears complete or not at all.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ip2p {

namespace detail {

/// The text of an errno value, e.g. "No space left on device".
std::string errno_text(int code);

/// The file that a write to `path` should replace. Symbolic links are followed, so that a link stays a link.
std::filesystem::path write_target(const std::filesystem::path& path);

/// Flushes a folder's entries to disk. Some file systems cannot open or sync a folder; that is not an error.
void sync_folder(const std::filesystem::path& folder);

}  // namespace detail

/// Replaces `path` atomically when `commit()` is called; without `commit()` it leaves no trace.
///
/// The bytes go to a temporary file in the same folder, which is fsynced and renamed over `path`; an fsync of the
/// folder then makes the rename durable. Readers see either the old file or the complete new one, even after a crash or
/// when the disk is full. An existing file keeps its permission bits. System failures throw `Error` naming the path.
///
/// A temporary file is locked (flock(2)) while its writer lives, so that what a killed process left can be told from
/// what another is writing: see `remove_temporaries_of`.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws `Error` if `path` exists and is not a regular file, or if its folder is missing
  /// or not writable.
  explicit AtomicFile(const std::filesystem::path& path);

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Removes the temporary file if `commit()` was not called.
  ~AtomicFile() { discard(); }

  /// Appends `bytes`. Throws `Error` (disk full, quota, I/O error) and leaves the old file untouched.
  void write(std::span<const std::byte> bytes);

  /// Flushes the bytes to disk and moves the file to `path`. Throws `Error` and leaves the old file untouched if that
  /// fails.
  void commit();

 private:
  void open_temporary();
  /// \return false if another process is removing the file, which it saw before the lock
  [[nodiscard]] bool lock_temporary() const;
  void sync(int descriptor);
  [[noreturn]] void give_up(int code, const char* operation);
  void discard() noexcept;

  std::filesystem::path target_;
  std::filesystem::path folder_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

namespace detail {

/// Whether a file is named as `AtomicFile` names its temporary files: ".NAME.0123456789abcdef.tmp".
bool is_temporary(std::string_view name);

}  // namespace detail

/// Removes temporary files that `AtomicFile` left behind in processes that were killed while writing to `path`. Those
/// of processes at work stay, and all of them on a file system without locks.
void remove_temporaries_of(const std::filesystem::path& path);

/// The same for all files in `folder`.
void remove_temporaries_in(const std::filesystem::path& folder);

/// The same for all files in `folder` and in all folders below it.
void remove_temporaries_below(const std::filesystem::path& folder);

/// Writes the concatenation of `parts` to `path` atomically. Throws `Error` and keeps the old file on failure.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> parts);

/// Writes `bytes` to `path` atomically. Throws `Error` and keeps the old file on failure.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include <ip2p/io/atomic_file_definitions.hpp>
#endif
