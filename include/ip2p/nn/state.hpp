#pragma once

/// \file
/// Loads and reads a module's weights under their names in the published files.
///
/// A fused projection holds several of the file's tensors as row blocks of one parameter: `to_qkv` holds `to_q`, `to_k`
/// and `to_v`; `to_kv` holds `to_k` and `to_v`; `qkv_proj` holds `q_proj`, `k_proj` and `v_proj`. No other code needs
/// to know this.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/int8_host.hpp"

namespace ip2p {

namespace detail {

/// The file's names for the row blocks of parameter `name`; just `name` if it is not fused.
inline std::vector<std::string> file_names(const std::string& name) {
  struct Fused {
    std::string_view part;
    std::vector<std::string_view> blocks;
  };
  static const std::array<Fused, 3> fused{{{".to_qkv.", {".to_q.", ".to_k.", ".to_v."}},
                                           {".to_kv.", {".to_k.", ".to_v."}},
                                           {".qkv_proj.", {".q_proj.", ".k_proj.", ".v_proj."}}}};
  for (const auto& [part, blocks] : fused) {
    if (const auto position = name.find(part); position != std::string::npos) {
      std::vector<std::string> names;
      for (const auto block : blocks) {
        names.push_back(std::string(name).replace(position, part.size(), block));
      }
      return names;
    }
  }
  return {name};
}

/// Whether two shapes are equal up to trailing axes of size 1 (a linear layer may be stored as a 1x1 convolution).
inline bool same_up_to_ones(std::vector<std::int64_t> expected, std::vector<std::int64_t> found) {
  const auto strip = [](std::vector<std::int64_t>& shape) {
    while (shape.size() > 2 && shape.back() == 1) shape.pop_back();
  };
  strip(expected);
  strip(found);
  return expected == found;
}

}  // namespace detail

/// Loads every parameter of `module` from `weights`, all or nothing: if it throws, whatever the reason, the module has
/// the weights that it had. Therefore all tensors are read before the first is put in place, and a module that already
/// has weights holds both sets meanwhile. (Those of a new one take no memory until they are written to.)
///
/// Where a tensor is a view of a mapped file (`WeightAccess::mapped`), the file is read when the weight is first used,
/// after this call; if it shrinks in between, the operating system ends the process.
///
/// \param where named in errors, usually the file and the component
/// \param dtype the parameters' new dtype, floating-point; they stay on their device
/// \throws Error if names or shapes do not match, with a report of missing, unexpected and mis-shaped tensors: counts,
///   the first few names, nearest names, expected and found shapes; if a tensor cannot be read; and if one is not
///   floating-point or is not of the shape that its entry states
inline void load_weights(Module& module, const Weights& weights, const std::string& where,
                         at::ScalarType dtype = at::kFloat) {
  const at::NoGradGuard no_grad;
  require(at::isFloatingType(dtype), "{}: dtype: expected a floating-point one, found {}", where, at::toString(dtype));
  const auto parameters = module.named_parameters();
  std::vector<std::string> missing;
  std::vector<std::string> misshaped;
  std::set<std::string> unexpected;
  std::vector<std::string> present;
  for (const auto& [name, entry] : weights) {
    unexpected.insert(name);
    present.push_back(name);
  }

  for (const auto& [parameter, tensor] : parameters) {
    const auto names = detail::file_names(parameter);
    auto expected = detail::plain_shape(tensor);
    if (names.size() > 1) expected[0] /= static_cast<std::int64_t>(names.size());
    for (const auto& name : names) {
      const auto found = weights.find(name);
      unexpected.erase(name);
      if (found == weights.end()) {
        missing.push_back(name);
      } else if (!detail::same_up_to_ones(expected, found->second.shape)) {
        misshaped.push_back(
            fmt::format("{}: expected {}, found {}", name, shape_text(expected), shape_text(found->second.shape)));
      }
    }
  }
  if (!missing.empty() || !misshaped.empty() || !unexpected.empty()) {
    constexpr std::size_t shown = 8;
    auto report = fmt::format(
        "{}: the weights do not fit this architecture: {} tensors missing, {} unexpected, {} of "
        "another shape, {} expected in all",
        where, missing.size(), unexpected.size(), misshaped.size(), parameters.size());
    for (std::size_t i = 0; i < misshaped.size() && i < shown; ++i) report += "\n  shape: " + misshaped[i];
    for (std::size_t i = 0; i < missing.size() && i < shown; ++i) {
      report += "\n  missing: " + missing[i] + detail::nearest_names_clause(missing[i], present, 1);
    }
    std::size_t count = 0;
    for (const auto& name : unexpected) {
      if (count++ == shown) break;
      report += "\n  unexpected: " + name;
    }
    throw Error(report);
  }

  std::vector<at::Tensor> loaded;
  for (const auto& [parameter, tensor] : parameters) {
    const auto names = detail::file_names(parameter);
    std::vector<at::Tensor> blocks;
    auto shape = detail::plain_shape(tensor);
    if (names.size() > 1) shape[0] /= static_cast<std::int64_t>(names.size());
    for (const auto& name : names) {
      const auto& entry = weights.at(name);
      const auto block = entry.read();
      require(block.defined() && block.sizes() == at::IntArrayRef(entry.shape) && block.is_floating_point(),
              "{}: tensor '{}': expected floating-point values {}, found {}", where, name, shape_text(entry.shape),
              tensor_text(block));
      blocks.push_back(block.to(tensor.device(), dtype).reshape(shape));
    }
    loaded.push_back(blocks.size() == 1 ? blocks[0] : at::cat(blocks, 0));
  }
  const detail::PlainForNow plain(module);
  const auto targets = module.parameters();
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].set_data(loaded[i]);
  note_model_change();
}

/// Every parameter of `module` with its name, in plain form: the parameter itself, or an unpacked copy if the layer
/// stores it packed. Safe while other threads evaluate the module. \throws Error after `use_int8`
inline Named<at::Tensor> plain_parameters(const Module& module) {
  detail::require_plain_weights(module);
  Named<at::Tensor> plain;
  for (const auto& [prefix, layer] : module.named_modules()) {
    const auto* freezable = dynamic_cast<const Freezable*>(layer);
    const auto resting = freezable ? freezable->at_rest() : std::unique_lock<std::mutex>();
    for (const auto& [name, tensor] : layer->own_parameters()) {
      plain.emplace_back(detail::joined_name(prefix, name), detail::plain_tensor(tensor));
    }
  }
  return plain;
}

/// The module's parameters by their names in files; fused ones as views of row blocks. Only packed ones are copied.
inline std::map<std::string, at::Tensor> state_of(const Module& module) {
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : plain_parameters(module)) {
    const auto names = detail::file_names(name);
    if (names.size() == 1) {
      state.emplace(names[0], tensor.detach());
      continue;
    }
    const auto blocks = tensor.detach().chunk(static_cast<std::int64_t>(names.size()), 0);
    for (std::size_t i = 0; i < names.size(); ++i) state.emplace(names[i], blocks[i]);
  }
  return state;
}

/// Copies the values of `from`'s parameters into those of `to`, whose dtype and device do not change.
/// \throws Error, without changing anything, unless both have parameters of the same names and shapes
inline void copy_weights(const Module& from, Module& to) {
  const at::NoGradGuard no_grad;
  const auto source = plain_parameters(from);
  const detail::PlainForNow plain(to);
  auto target = plain_parameters(to);
  require(source.size() == target.size(), "copy_weights: expected {} parameters, found {}", target.size(),
          source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    require(source[i].first == target[i].first && source[i].second.sizes() == target[i].second.sizes(),
            "copy_weights: expected a parameter '{}' {}, found '{}' {}", target[i].first,
            shape_text(target[i].second.sizes()), source[i].first, shape_text(source[i].second.sizes()));
  }
  for (std::size_t i = 0; i < source.size(); ++i) target[i].second.copy_(source[i].second);
}

}  // namespace ip2p
