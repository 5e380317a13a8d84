#pragma once

/// \file
/// Weights in and out of a module, under the names of the published files.
///
/// Where a module fuses projections, the file's tensors are row blocks of one parameter: `to_qkv` holds `to_q`, `to_k`,
/// `to_v`; `to_kv` holds `to_k`, `to_v`; `qkv_proj` holds `q_proj`, `k_proj`, `v_proj`. This is the only place that
/// knows so.

#include <ATen/ops/cat.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

namespace detail {

/// Names in the file of the row blocks of the parameter `name`; `name` alone where nothing is fused.
inline std::vector<std::string> file_names(const std::string& name) {
  struct Fused {
    std::string_view part;
    std::vector<std::string_view> blocks;
  };
  static const std::array<Fused, 3> fused{{{".to_qkv.", {".to_q.", ".to_k.", ".to_v."}},
                                           {".to_kv.", {".to_k.", ".to_v."}},
                                           {".qkv_proj.", {".q_proj.", ".k_proj.", ".v_proj."}}}};
  for (const auto& [part, blocks] : fused) {
    if (const auto at = name.find(part); at != std::string::npos) {
      std::vector<std::string> names;
      for (const auto block : blocks) {
        names.push_back(std::string(name).replace(at, part.size(), block));
      }
      return names;
    }
  }
  return {name};
}

/// Whether `found` holds `expected` up to trailing axes of size 1 (a linear layer stored as a 1x1 convolution).
inline bool same_up_to_ones(std::vector<std::int64_t> expected, std::vector<std::int64_t> found) {
  const auto strip = [](std::vector<std::int64_t>& shape) {
    while (shape.size() > 2 && shape.back() == 1) shape.pop_back();
  };
  strip(expected);
  strip(found);
  return expected == found;
}

}  // namespace detail

/// Fills every parameter of `module` from `weights`, or changes nothing.
///
/// \param where named in errors, usually the file and the component  \param dtype of the parameters afterwards
/// \throws Error with one report of the missing, unexpected and mis-shaped tensors: counts, the first few names,
///   nearest names, expected and found shapes. Nothing is loaded then.
inline void load_weights(torch::nn::Module& module, const Weights& weights, const std::string& where,
                         at::ScalarType dtype = at::kFloat) {
  const at::NoGradGuard no_grad;
  auto parameters = module.named_parameters();
  std::vector<std::string> missing;
  std::vector<std::string> misshaped;
  std::set<std::string> unexpected;
  std::vector<std::string> present;
  for (const auto& [name, entry] : weights) {
    unexpected.insert(name);
    present.push_back(name);
  }

  for (const auto& item : parameters) {
    const auto names = detail::file_names(item.key());
    auto expected = item.value().sizes().vec();
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

  for (auto& item : parameters) {
    const auto names = detail::file_names(item.key());
    std::vector<at::Tensor> blocks;
    auto shape = item.value().sizes().vec();
    if (names.size() > 1) shape[0] /= static_cast<std::int64_t>(names.size());
    for (const auto& name : names) blocks.push_back(weights.at(name).read().to(dtype).reshape(shape));
    item.value().set_data(blocks.size() == 1 ? blocks[0] : at::cat(blocks, 0));
  }
}

/// Copies of nothing: the module's parameters by file name, fused ones as views of their row blocks.
inline std::map<std::string, at::Tensor> state_of(const torch::nn::Module& module) {
  std::map<std::string, at::Tensor> state;
  for (const auto& item : module.named_parameters()) {
    const auto names = detail::file_names(item.key());
    if (names.size() == 1) {
      state.emplace(names[0], item.value().detach());
      continue;
    }
    const auto blocks = item.value().detach().chunk(static_cast<std::int64_t>(names.size()), 0);
    for (std::size_t i = 0; i < names.size(); ++i) state.emplace(names[i], blocks[i]);
  }
  return state;
}

}  // namespace ip2p
