#pragma once

/// \file
/// Writing safetensors files.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

namespace detail {

/// A tensor of a file that is to be written, and where its values come from when it is its turn.
struct SafetensorsItem {
  std::string name;
  at::ScalarType dtype;
  std::vector<std::int64_t> shape;
  std::function<at::Tensor()> read;
};

/// `write_safetensors` for items in the order of their names, whose tensors need not be there at the same time.
void write_safetensors_items(const std::filesystem::path& path, const std::vector<SafetensorsItem>& items,
                             const std::map<std::string, std::string>& metadata);

}  // namespace detail

/// Writes `tensors` (any device, layout or strides) to `path` as one atomic file, byte for byte as the reference
/// serialises them: widest dtype first, then by name, the header padded with spaces to a multiple of 8.
///
/// Throws `Error`, before anything is written, if a tensor is undefined, sparse or quantised or has a dtype that the
/// format lacks, or if a name is `__metadata__` or no UTF-8; and on every I/O failure, after which the old file is
/// intact.
inline void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::vector<detail::SafetensorsItem> items;
  for (const auto& [name, tensor] : tensors) {
    require(tensor.defined() && tensor.layout() == at::kStrided, "cannot write '{}': tensor '{}' is {}", path.string(),
            name, tensor.defined() ? "not dense" : "undefined");
    items.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), [&tensor = tensor] { return tensor; }});
  }
  detail::write_safetensors_items(path, items, metadata);
}

/// Writes `weights` as the other `write_safetensors` does; each entry is read when it is its turn, and let go after it.
/// \throws Error also when an entry reads a tensor of another shape or dtype than it says
inline void write_safetensors(const std::filesystem::path& path, const Weights& weights,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::vector<detail::SafetensorsItem> items;
  for (const auto& [name, entry] : weights) items.push_back({name, entry.dtype, entry.shape, entry.read});
  detail::write_safetensors_items(path, items, metadata);
}

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include "ip2p/io/write_safetensors_definitions.hpp"
#endif
