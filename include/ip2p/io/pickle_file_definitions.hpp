#pragma once

/// \file
/// The definitions behind pickle_file.hpp.

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickle_file.hpp"
#include "ip2p/io/pickle_tensors.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/zip_archive.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// The type of a pickled tensor's elements.
inline at::ScalarType dtype_of(const PickledTensor& tensor) {
  if (tensor.type == "C128") return at::kComplexDouble;  // which safetensors lack
  const auto known = std::find_if(safetensors_dtypes.begin(), safetensors_dtypes.end(),
                                  [&](const SafetensorsDtype& row) { return row.name == tensor.type; });
  return known->type;
}

/// Whether the tensor's elements lie in its storage without gaps, in order.
inline bool is_contiguous(const PickledTensor& tensor) {
  if (tensor.span == 0) return true;
  std::int64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

}  // namespace detail

struct PickleFile::Contents {
  detail::PickledTensors read;
  mutable std::vector<std::atomic<bool>> checked;  // for each storage, whether its sum was compared
};

IP2P_INLINE const detail::PickledTensor& PickleFile::find(std::string_view name) const {
  const auto& tensors = contents_->read.tensors;
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    throw_error("{}: has no tensor '{}'{}", file_->name(), detail::printable(name),
                detail::nearest_names_clause(name, names()));
  }
  return found->second;
}

IP2P_INLINE bool PickleFile::recognises(const std::filesystem::path& path) {
  const detail::OpenedFile file(path);
  const auto start = detail::read_bytes(file, 0, std::min<std::uint64_t>(file.size(), 64));
  return detail::starts_as_zip(start) || detail::starts_as_pickle(start);
}

IP2P_INLINE PickleFile PickleFile::open(const std::filesystem::path& path, const Options& options) {
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

IP2P_INLINE const std::string& PickleFile::root() const { return contents_->read.root; }

IP2P_INLINE std::vector<std::string> PickleFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : contents_->read.tensors) result.push_back(name);
  return result;
}

IP2P_INLINE bool PickleFile::contains(std::string_view name) const { return contents_->read.tensors.contains(name); }

IP2P_INLINE const std::vector<std::int64_t>& PickleFile::shape(std::string_view name) const { return find(name).shape; }

IP2P_INLINE at::ScalarType PickleFile::dtype(std::string_view name) const { return detail::dtype_of(find(name)); }

IP2P_INLINE at::Tensor PickleFile::tensor(std::string_view name) const {
  const auto& info = find(name);
  const auto& storage = contents_->read.storages[info.storage];
  auto& checked = contents_->checked[info.storage];
  const auto dtype = detail::dtype_of(info);
  const auto bytes = static_cast<std::size_t>(info.span);
  const bool plain = detail::is_contiguous(info);
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

}  // namespace ip2p
#endif
