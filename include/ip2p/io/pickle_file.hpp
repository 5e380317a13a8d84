#pragma once

/// \file
/// Reading the tensors of PyTorch's own files (.ckpt, .pt, .pth, .bin), without running anything that is in them.

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
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
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickle_tensors.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/safetensors_header.hpp"

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
  [[nodiscard]] static bool recognises(const std::filesystem::path& path) {
    const detail::OpenedFile file(path);
    const auto start = detail::bytes_of(file, 0, std::min<std::uint64_t>(file.size(), 64));
    return detail::starts_as_zip(start) || detail::starts_as_pickle(start);
  }

  /// Opens `path` and finds its tensors, of either layout of `torch.save`. Throws `Error` if the file cannot be opened,
  /// is something else, or is damaged; see `detail::read_pickled_tensors`.
  static PickleFile open(const std::filesystem::path& path, const Options& options = {}) {
    PickleFile result;
    result.file_ = std::make_shared<const detail::OpenedFile>(path);
    auto contents = std::make_shared<Contents>();
    contents->read = detail::read_pickled_tensors(*result.file_);
    contents->checked = std::vector<std::atomic<bool>>(contents->read.storages.size());
    result.contents_ = std::move(contents);
    result.options_ = options;
    result.path_ = path;
    return result;
  }

  /// The path that was opened.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// What was saved, in words, e.g. "a dictionary of 'epoch', 'state_dict'".
  [[nodiscard]] const std::string& root() const { return contents_->read.root; }

  /// Names of all tensors, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : contents_->read.tensors) result.push_back(name);
    return result;
  }

  /// Whether the file has a tensor of this name.
  [[nodiscard]] bool contains(std::string_view name) const { return contents_->read.tensors.contains(name); }

  /// Sizes of a tensor; empty for a scalar. Throws `Error` with the nearest names if there is none of this name.
  [[nodiscard]] const std::vector<std::int64_t>& shape(std::string_view name) const { return find(name).shape; }

  /// Type of a tensor's elements. Throws `Error` with the nearest names if there is none of this name.
  [[nodiscard]] at::ScalarType dtype(std::string_view name) const { return dtype_of(find(name)); }

  /// The tensor `name`, contiguous, on the CPU, in the file's dtype; see `WeightAccess` for whose memory it is. A
  /// tensor that is no contiguous part of its storage is copied.
  ///
  /// The first tensor of a storage reads all of it and compares its checksum, if the file has one (the layout of
  /// versions before 1.6 has none). Throws `Error` if there is no such tensor, if the sums differ, if the file has
  /// become shorter than when it was opened, on an I/O error, if a tensor of bools holds bytes other than 0 and 1, and
  /// with `check_finite` for NaN or infinite values.
  [[nodiscard]] at::Tensor tensor(std::string_view name) const {
    const auto& info = find(name);
    const auto& storage = contents_->read.storages[info.storage];
    auto& checked = contents_->checked[info.storage];
    const auto dtype = dtype_of(info);
    const auto bytes = static_cast<std::size_t>(info.span);
    const bool plain = contiguous(info);
    const bool mapped = options_.access == WeightAccess::mapped && plain && bytes >= detail::smallest_mapping &&
                        info.begin % detail::alignment_of(dtype) == 0;
    const bool whole = plain && info.begin == storage.place.begin && info.span == storage.place.bytes;
    const bool summed = storage.summed && !checked.load();
    // A copy of the whole storage is summed where it is; anything else by reading the storage ahead.
    if (summed && (mapped || !whole)) detail::require_zip_sum(*file_, storage.place, storage.name);
    at::Tensor result;
    if (mapped) {
      const auto pages = file_->map(info.begin, bytes);
      result = at::from_blob(
          pages.get(), info.shape, [pages](void*) {}, at::TensorOptions(dtype));
    } else if (plain) {
      result = at::empty(info.shape, at::TensorOptions(dtype));
      const std::span target(static_cast<std::byte*>(result.data_ptr()), bytes);
      file_->read(target, info.begin);
      if (summed && whole) {
        detail::require_equal_sums(detail::crc32(target), storage.place.crc, storage.name, file_->name());
      }
    } else {
      // Bools are copied as bytes, of which those other than 0 and 1 are then still seen.
      const at::TensorOptions as_stored(dtype == at::kBool ? at::kByte : dtype);
      const auto stored = at::empty({static_cast<std::int64_t>(info.span / info.element_bytes)}, as_stored);
      file_->read({static_cast<std::byte*>(stored.data_ptr()), bytes}, info.begin);
      result = at::from_blob(stored.data_ptr(), info.shape, info.strides, as_stored);
      result = result.clone(at::MemoryFormat::Contiguous).view(dtype);
    }
    checked.store(true);
    detail::require_stored_values(result, name, file_->name(), options_.check_finite);
    return result;
  }

 private:
  struct Contents {
    detail::PickledTensors read;
    mutable std::vector<std::atomic<bool>> checked;  // for each storage, whether its sum was compared
  };

  [[nodiscard]] const detail::PickledTensor& find(std::string_view name) const {
    const auto& tensors = contents_->read.tensors;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      throw_error("{}: has no tensor '{}'{}", file_->name(), detail::printable(name),
                  detail::nearest_names_clause(name, names()));
    }
    return found->second;
  }

  static at::ScalarType dtype_of(const detail::PickledTensor& tensor) {
    if (tensor.type == "C128") return at::kComplexDouble;  // which safetensors lack
    const auto known = std::find_if(detail::safetensors_dtypes.begin(), detail::safetensors_dtypes.end(),
                                    [&](const detail::SafetensorsDtype& row) { return row.name == tensor.type; });
    return known->type;
  }

  static bool contiguous(const detail::PickledTensor& tensor) {
    if (tensor.span == 0) return true;
    std::int64_t expected = 1;
    for (std::size_t i = tensor.shape.size(); i-- > 0;) {
      if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
      expected *= tensor.shape[i];
    }
    return true;
  }

  std::shared_ptr<const detail::OpenedFile> file_;
  std::shared_ptr<const Contents> contents_;
  Options options_;
  std::filesystem::path path_;
};

}  // namespace ip2p
