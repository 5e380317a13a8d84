#pragma once

/// \file
/// Named weights of one model component, read on demand.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/safetensors.hpp"

namespace ip2p {

/// One tensor of a weight file: its shape and dtype from the header, and a function that reads its data.
struct WeightEntry {
  std::vector<std::int64_t> shape;    ///< Sizes; empty for a scalar.
  at::ScalarType dtype = at::kFloat;  ///< As stored in the file.
  std::function<at::Tensor()> read;   ///< Reads the tensor; may share the file's memory.
};

/// Entries by their diffusers or transformers name.
using Weights = std::map<std::string, WeightEntry>;

/// All tensors of `file` under their names in the file. No data is read yet.
inline Weights weights_of(const SafetensorsFile& file) {
  Weights weights;
  for (const auto& [name, info] : file.tensors()) {
    weights.emplace(name, WeightEntry{info.shape, info.dtype, [file, name = name] { return file.tensor(name); }});
  }
  return weights;
}

/// Total number of elements in all entries.
inline std::int64_t element_count(const Weights& weights) {
  std::int64_t total = 0;
  for (const auto& [name, entry] : weights) {
    std::int64_t elements = 1;
    for (const auto size : entry.shape) elements *= size;
    total += elements;
  }
  return total;
}

namespace detail {

/// Rows [first, first + count) of `entry` [R, ...]. Throws `Error` naming `name` if there are not that many rows.
inline WeightEntry rows_of(const WeightEntry& entry, std::int64_t first, std::int64_t count, const std::string& name) {
  require(!entry.shape.empty() && first >= 0 && count >= 0 && count <= entry.shape[0] - first,
          "tensor '{}': expected at least {} rows, found the shape {}", name, first + count, shape_text(entry.shape));
  WeightEntry part = entry;
  part.shape[0] = count;
  // A copy, so that the memory of the other rows can be freed.
  part.read = [read = entry.read, first, count] { return read().narrow(0, first, count).clone(); };
  return part;
}

/// `entry` [O, I, 1, ...] of a 1x1 convolution as the matrix [O, I] of a linear layer. Other shapes are unchanged.
inline WeightEntry as_matrix(const WeightEntry& entry) {
  if (entry.shape.size() <= 2) return entry;
  for (std::size_t i = 2; i < entry.shape.size(); ++i) {
    if (entry.shape[i] != 1) return entry;
  }
  WeightEntry matrix = entry;
  matrix.shape.resize(2);
  matrix.read = [read = entry.read, shape = matrix.shape] { return read().reshape(shape); };
  return matrix;
}

/// The entries whose names start with `prefix`, with the prefix removed.
inline Weights without_prefix(const Weights& weights, const std::string& prefix) {
  Weights result;
  for (auto entry = weights.lower_bound(prefix); entry != weights.end() && entry->first.starts_with(prefix); ++entry) {
    result.emplace(entry->first.substr(prefix.size()), entry->second);
  }
  return result;
}

}  // namespace detail
}  // namespace ip2p
