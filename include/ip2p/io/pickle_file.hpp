#pragma once

/// \file
/// Reading the tensors of PyTorch's own files (.ckpt, .pt, .pth, .bin), without running anything that is in them.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/safetensors.hpp"

namespace ip2p {

/// A file that `torch.save` wrote, of which only the list of its tensors has been read.
///
/// Such a file holds a pickle, a program that Python runs to rebuild what was saved. This reader runs none of it: it
/// understands dictionaries, numbers, texts and how tensors are rebuilt, and passes over everything else. Which tensors
/// there are, and under which names, is told at `detail::read_pickled_tensors`.
///
/// A regular value: copies share the open file. All members may be called from several threads at once. Tensors remain
/// valid after the last `PickleFile` is gone.
class PickleFile {
 public:
  /// Settings of `open`; they mean the same as for safetensors.
  using Options = SafetensorsOptions;

  /// Whether `path` looks like a file that `torch.save` wrote, by its first bytes and not by its name. Throws `Error`
  /// if it cannot be opened.
  [[nodiscard]] static bool recognises(const std::filesystem::path& path);

  /// Opens `path` and finds its tensors, of either layout of `torch.save`. Throws `Error` if the file cannot be opened,
  /// is something else, or is damaged; see `detail::read_pickled_tensors`.
  static PickleFile open(const std::filesystem::path& path, const Options& options = {});

  /// The path that was opened.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// What was saved, in words, e.g. "a dictionary of 'epoch', 'state_dict'".
  [[nodiscard]] const std::string& root() const;

  /// Names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

  /// Whether the file has a tensor of this name.
  [[nodiscard]] bool contains(std::string_view name) const;

  /// Sizes of a tensor; empty for a scalar. Throws `Error` with the nearest names if there is none of this name.
  [[nodiscard]] const std::vector<std::int64_t>& shape(std::string_view name) const;

  /// Type of a tensor's elements. Throws `Error` with the nearest names if there is none of this name.
  [[nodiscard]] at::ScalarType dtype(std::string_view name) const;

  /// The tensor `name`, contiguous, on the CPU, in the file's dtype; see `WeightAccess` for whose memory it is. A
  /// tensor that is no contiguous part of its storage is copied.
  ///
  /// The first tensor of a storage reads all of it and compares its checksum, if the file has one (the layout of
  /// versions before 1.6 has none). Throws `Error` if there is no such tensor, if the sums differ, if the file has
  /// become shorter than when it was opened, on an I/O error, if a tensor of bools holds bytes other than 0 and 1, and
  /// with `check_finite` for NaN or infinite values.
  [[nodiscard]] at::Tensor tensor(std::string_view name) const;

 private:
  struct Contents;

  [[nodiscard]] const detail::PickledTensor& find(std::string_view name) const;

  std::shared_ptr<const detail::OpenedFile> file_;
  std::shared_ptr<const Contents> contents_;
  Options options_;
  std::filesystem::path path_;
};

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else they are linked
#include "ip2p/io/pickle_file_definitions.hpp"
#endif
