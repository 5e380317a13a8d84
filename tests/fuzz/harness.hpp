#pragma once

/// \file
/// What the fuzz targets share. A target is a file with `LLVMFuzzerTestOneInput`; what has to hold is said at its head.

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "ip2p/core/error.hpp"
#include "ip2p/io/utf8.hpp"

/// libFuzzer's own mutation of `size` bytes, at most `most` afterwards. Returns the new size.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace ip2p::testing::fuzz {

/// Ends the run as a finding.
[[noreturn]] inline void broken(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Ends the run as a finding unless `holds`.
inline void expect(bool holds, const char* what) {
  if (!holds) broken(what);
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A message is a sentence that a terminal may show: UTF-8 without control characters, but for breaks between lines.
inline void expect_shown(std::string_view message) {
  expect(!message.empty(), "an error without a message");
  bool shown = !ip2p::detail::first_invalid_utf8(message);
  for (std::size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    shown = shown && (byte >= 0x20 || byte == '\n') && byte != 0x7F &&
            !(byte == 0xC2 && static_cast<unsigned char>(message[i + 1]) < 0xA0);
  }
  if (!shown) std::fprintf(stderr, "fuzz: %.*s\n", static_cast<int>(message.size()), message.data());
  expect(shown, "a message with bytes that a terminal must not be shown");
}

/// Calls `read`. Whether it returned; what it throws has to be an `Error` with a message, anything else is a finding.
template <class Read>
bool reads(Read&& read) {
  try {
    read();
    return true;
  } catch (const ip2p::Error& error) {
    expect(*error.what() != '\0', "an error without a message");
    return false;
  }
}

/// Calls `read`, which has to succeed.
template <class Read>
void must_read(const char* what, Read&& read) {
  try {
    read();
  } catch (const ip2p::Error& error) {
    std::fprintf(stderr, "fuzz: %s\n", error.what());
    broken(what);
  }
}

/// A file in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    expect(descriptor_ >= 0, "no memory for a file");
    while (!bytes.empty()) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      expect(written > 0, "a file in memory cannot be written");
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A folder of this process, in memory where the machine has /dev/shm, for what is read by its names.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code ignored;
    const std::filesystem::path shared = "/dev/shm";
    const bool there = std::filesystem::is_directory(shared, ignored) && ::access(shared.c_str(), W_OK) == 0;
    path_ = (there ? shared : std::filesystem::temp_directory_path()) /
            ("ip2p-fuzz-" + std::to_string(::getpid()) + "-" + std::to_string(made++));
    clear();
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  /// Removes what is in it.
  void clear() {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    held_.clear();
  }
  /// Makes it hold `bytes` under `name`, or no such file if there are none. What it holds already is not written again,
  /// which is most of the files of most mutations; for folders that only this function writes to.
  void hold(const std::string& name, std::string_view bytes) {
    auto& held = held_[name];
    if (held == bytes) return;
    held = bytes;
    if (bytes.empty()) {
      std::filesystem::remove(path_ / name);
    } else {
      put(name, bytes);
    }
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Writes a file, with its folders. \return its path
  std::filesystem::path put(const std::filesystem::path& name, std::string_view bytes) const {
    const auto place = path_ / name;
    if (place.parent_path() != path_) std::filesystem::create_directories(place.parent_path());
    std::ofstream(place, std::ios::binary) << bytes;
    return place;
  }
  [[nodiscard]] std::string get(const std::filesystem::path& name) const {
    std::ifstream file(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path path_;
  std::map<std::string, std::string> held_;
  static inline int made = 0;
};

/// Stands between the files of an input that holds several.
inline constexpr std::string_view separator = "\n=====\n";

/// The first `Count` files of an input; those that it lacks are empty. The last has the rest.
template <std::size_t Count>
std::array<std::string_view, Count> files_of(std::string_view input) {
  std::array<std::string_view, Count> files{};
  for (std::size_t i = 0; i < Count; ++i) {
    const auto end = i + 1 < Count ? input.find(separator) : std::string_view::npos;
    files[i] = input.substr(0, end);
    input = end == std::string_view::npos ? std::string_view() : input.substr(end + separator.size());
  }
  return files;
}

/// libFuzzer's mutation of a part of an input.
inline std::string mutated(std::string part, std::size_t room) {
  const auto size = part.size();
  part.resize(size + room);
  part.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(part.data()), size, part.size()));
  return part;
}

/// Puts `text` into libFuzzer's buffer of `most` bytes, if it fits. Returns the size that the buffer then holds.
inline std::size_t put_back(const std::string& text, std::uint8_t* data, std::size_t size, std::size_t most) {
  if (text.empty() || text.size() > most) return size;
  std::memcpy(data, text.data(), text.size());
  return text.size();
}

}  // namespace ip2p::testing::fuzz
