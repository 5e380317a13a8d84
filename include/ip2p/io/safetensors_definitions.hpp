#pragma once

/// \file
/// The definitions behind safetensors.hpp.

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/safetensors_header.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

IP2P_INLINE void require_finite(const at::Tensor& tensor, std::string_view name, std::string_view file) {
  if (!at::isFloatingType(tensor.scalar_type()) && !at::isComplexType(tensor.scalar_type())) return;
  const bool narrow = tensor.element_size() == 1;  // LibTorch has no isnan for some 8-bit types
  const at::Tensor values = narrow ? tensor.to(at::kFloat) : tensor;
  const auto nans = values.isnan().sum().item<std::int64_t>();
  const auto infinite = values.isinf().sum().item<std::int64_t>();
  require(nans == 0 && infinite == 0, "{}: tensor '{}' holds {} NaN and {} infinite values among its {}", file,
          printable(name), nans, infinite, tensor.numel());
}

IP2P_INLINE void require_stored_values(const at::Tensor& tensor, std::string_view name, std::string_view file,
                                       bool check_finite) {
  if (tensor.scalar_type() == at::kBool) {
    const std::span stored(static_cast<const unsigned char*>(tensor.data_ptr()), tensor.nbytes());
    require(std::all_of(stored.begin(), stored.end(), [](unsigned char value) { return value <= 1; }),
            "{}: tensor '{}' is BOOL but holds bytes other than 0 and 1", file, printable(name));
  }
  if (check_finite) require_finite(tensor, name, file);
}

}  // namespace detail

IP2P_INLINE SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path, const Options& options) {
  auto file = std::make_shared<const detail::OpenedFile>(path);
  const std::string& name = file->name();
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), 256)), '\0');
  file->read(std::as_writable_bytes(std::span(start)), 0);
  const auto refuse_foreign = [&] {
    const auto kind = detail::foreign_file_kind(start);
    require(kind.empty(), "{}: is not a safetensors file but {}", name, kind);
  };
  if (start.size() < 8) {
    refuse_foreign();
    throw_error("{}: is not a safetensors file: expected at least 8 bytes, found {}", name, start.size());
  }
  std::uint64_t length = 0;
  std::memcpy(&length, start.data(), sizeof length);
  if (length > detail::max_safetensors_header || length > file->size() - 8) refuse_foreign();
  require(length <= detail::max_safetensors_header,
          "{}: is not a safetensors file: its header claims {} bytes, at most {} are allowed", name, length,
          detail::max_safetensors_header);
  require(length <= file->size() - 8, "{}: is truncated: its header claims {} bytes, {} follow its length field", name,
          length, file->size() - 8);
  std::string json(static_cast<std::size_t>(length), '\0');
  file->read(std::as_writable_bytes(std::span(json)), 8);
  SafetensorsFile result;
  result.header_ = std::make_shared<const SafetensorsHeader>(
      detail::parse_safetensors_header(json, file->size() - 8 - length, name));
  result.file_ = std::move(file);
  result.data_start_ = 8 + length;
  result.options_ = options;
  result.path_ = path;
  return result;
}

IP2P_INLINE const SafetensorsInfo& SafetensorsFile::info(std::string_view name) const {
  const auto found = tensors().find(name);
  if (found == tensors().end()) {
    throw_error("{}: has no tensor '{}'{}", file_->name(), detail::printable(name),
                detail::nearest_names_clause(name, names()));
  }
  return found->second;
}

IP2P_INLINE at::Tensor SafetensorsFile::tensor(std::string_view name) const {
  const SafetensorsInfo& info = this->info(name);
  const std::uint64_t offset = data_start_ + info.begin;
  const auto bytes = static_cast<std::size_t>(info.end - info.begin);
  const bool aligned = offset % detail::alignment_of(info.dtype) == 0;
  at::Tensor result;
  if (options_.access == WeightAccess::mapped && aligned && bytes >= detail::smallest_mapping) {
    const auto pages = file_->map(offset, bytes);
    result = at::from_blob(
        pages.get(), info.shape, [pages](void*) {}, at::TensorOptions(info.dtype));
  } else {
    result = at::empty(info.shape, at::TensorOptions(info.dtype));
    file_->read({static_cast<std::byte*>(result.data_ptr()), bytes}, offset);
  }
  detail::require_stored_values(result, name, file_->name(), options_.check_finite);
  return result;
}

}  // namespace ip2p
#endif
