#pragma once

// Attention edits done the way the library avoids: with the softmax maps themselves, in fp64, image by image.

#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <functional>
#include <vector>

#include "ip2p/attention/concepts.hpp"
#include "ip2p/attention/prompt_tokens.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/testing/check_attention.hpp"
#include "support/golden.hpp"

namespace ip2p::testing {

/// softmax(q k^T / sqrt(d)) of each row, [B,heads,N,M].
inline at::Tensor explicit_maps(const at::Tensor& q, const at::Tensor& k) {
  return at::softmax(
      at::matmul(q.to(at::kDouble), k.to(at::kDouble).transpose(-2, -1)) / std::sqrt(static_cast<double>(q.size(3))),
      -1);
}

/// The map of an edited image: from its source's map, its own, and its number in the group (0: the first edited one).
using EditMap = std::function<at::Tensor(const at::Tensor& source, const at::Tensor& own, std::int64_t destination)>;

/// The edited images of each group with the maps that `edit` returns, in the blocks that `edits_block` selects.
inline at::Tensor explicit_edit(const AttentionInput& input, std::int64_t blocks, std::int64_t group,
                                const std::function<bool(std::int64_t block)>& edits_block, const EditMap& edit) {
  const at::Tensor maps = explicit_maps(input.q, input.k);
  const std::int64_t images = maps.size(0) / blocks;
  std::vector<at::Tensor> rows;
  for (std::int64_t row = 0; row < maps.size(0); ++row) {
    const std::int64_t member = row % images % group;
    const bool edited = member > 0 && edits_block(row / images);
    const at::Tensor map = edited ? edit(maps[row - member], maps[row], member - 1) : maps[row];
    rows.push_back(at::matmul(map, input.v[row].to(at::kDouble)));
  }
  return at::stack(rows);
}

/// No branches, those of guidance along the text, and those of guidance along text and image.
inline const std::vector<std::vector<Branch>>& branch_lists() {
  static const std::vector<std::vector<Branch>> lists{
      {}, {Branch{true, true}, Branch{false, true}}, {Branch{true, true}, Branch{true, false}, Branch{false, false}}};
  return lists;
}

/// Whether rows of block `index` see the text.
inline bool sees_text(const std::vector<Branch>& branches, std::int64_t index) {
  return branches.empty() || branches[static_cast<std::size_t>(index)].text;
}

inline std::int64_t block_count(const std::vector<Branch>& branches) {
  return branches.empty() ? 1 : static_cast<std::int64_t>(branches.size());
}

/// A prompt of the fixture.
inline PromptTokens golden_prompt(const nlohmann::json& prompt) {
  return {prompt["text"].get<std::string>(), prompt["ids"].get<std::vector<std::int64_t>>(),
          prompt["pieces"].get<std::vector<std::string>>()};
}

}  // namespace ip2p::testing
