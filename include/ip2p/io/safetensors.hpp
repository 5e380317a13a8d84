#pragma once

/// \file
/// Reading safetensors files.

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors_header.hpp"

namespace ip2p {

/// How `SafetensorsFile::tensor` gets at the bytes.
enum class WeightAccess {
  /// Each tensor is read into memory of its own. Safe whatever happens to the file afterwards.
  copied,
  /// Tensors of 64 KiB and more are views of private, copy-on-write mappings of the file, where their offset suits
  /// their dtype: nothing is read before it is used, and processes that open the same file share its memory. The size
  /// of the file is checked for every tensor, but it must not shrink while such a tensor lives: the operating system
  /// would end the process (SIGBUS). Replacing the file by rename, as `write_safetensors` does, is harmless.
  mapped,
};

/// Options of `SafetensorsFile::open`.
struct SafetensorsOptions {
  WeightAccess access = WeightAccess::copied;  ///< How tensors get into memory.
  /// Look for NaN and infinity in every floating-point tensor that is read, and throw `Error` naming the tensor.
  bool check_finite = false;
};

namespace detail {

/// Counts NaN and infinite elements of a CPU tensor and throws `Error` naming `name` if there are any.
void require_finite(const at::Tensor& tensor, std::string_view name, std::string_view file);

/// What is checked of every tensor that was read from a file: a contiguous `tensor` of bools holds bytes 0 and 1 only,
/// and with `check_finite` there is no NaN and no infinity. Throws `Error` naming `name` otherwise.
void require_stored_values(const at::Tensor& tensor, std::string_view name, std::string_view file, bool check_finite);

/// The multiple of bytes at which tensors of `dtype` must lie in memory.
inline std::uint64_t alignment_of(at::ScalarType dtype) {
  return at::isComplexType(dtype) ? c10::elementSize(dtype) / 2 : c10::elementSize(dtype);
}

/// Below this size in bytes a copy is cheaper than a mapping, of which a process may have 65,530.
inline constexpr std::size_t smallest_mapping = 65536;

}  // namespace detail

/// A validated safetensors file of which only the header has been read.
///
/// A regular value: copies share the open file. All members may be called from several threads at once. Tensors remain
/// valid after the last `SafetensorsFile` is gone.
class SafetensorsFile {
 public:
  /// Settings of `open`.
  using Options = SafetensorsOptions;

  /// Opens `path` and validates its header against the size of the file. Throws `Error` if the file cannot be opened,
  /// is something else (a git-LFS pointer, an HTML page, a pickle: the message says which), or breaks a rule listed at
  /// `detail::parse_safetensors_header`.
  static SafetensorsFile open(const std::filesystem::path& path, const Options& options = {});

  /// The path that was opened.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Size of the file in bytes.
  [[nodiscard]] std::uint64_t bytes() const { return file_->size(); }

  /// All tensors, by name.
  [[nodiscard]] const std::map<std::string, SafetensorsInfo, std::less<>>& tensors() const { return header_->tensors; }

  /// Names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    result.reserve(tensors().size());
    for (const auto& [name, info] : tensors()) result.push_back(name);
    return result;
  }

  /// Whether the file has a tensor of this name.
  [[nodiscard]] bool contains(std::string_view name) const { return tensors().contains(name); }

  /// Dtype, shape and place of a tensor. Throws `Error` with the nearest names if there is none of this name.
  [[nodiscard]] const SafetensorsInfo& info(std::string_view name) const;

  /// The `__metadata__` strings of the header.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return header_->metadata; }

  /// The tensor `name`, contiguous, on the CPU, in the file's dtype; see `WeightAccess` for whose memory it is.
  /// Throws `Error` if there is no such tensor, if the file has become shorter than when it was opened, on an I/O
  /// error, if a BOOL tensor holds bytes other than 0 and 1, and with `check_finite` for NaN or infinite values.
  [[nodiscard]] at::Tensor tensor(std::string_view name) const;

 private:
  std::shared_ptr<const detail::OpenedFile> file_;
  std::shared_ptr<const SafetensorsHeader> header_;
  std::uint64_t data_start_ = 0;
  Options options_;
  std::filesystem::path path_;
};

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else they are linked
#include "ip2p/io/safetensors_definitions.hpp"
#endif
