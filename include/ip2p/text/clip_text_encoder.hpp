#pragma once

/// \file
/// CLIP's tokenizer and text transformer as one text encoder.

#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Prompts to CLIP's last hidden state, padded and truncated to 77 tokens and without a padding mask, as Stable
/// Diffusion does. Ask `tokenizer().encode(prompt)` for what was cut from a long prompt.
class ClipTextEncoder {
 public:
  /// \throws Error when the tokenizer can give ids or lengths that the model has no embedding for
  ClipTextEncoder(BpeTokenizer tokenizer, ClipTextModel model)
      : tokenizer_(std::move(tokenizer)), model_(std::move(model)) {
    require(tokenizer_.vocabulary_size() <= model_.config().vocab_size,
            "ClipTextEncoder: expected a tokenizer of at most {} tokens, found {}", model_.config().vocab_size,
            tokenizer_.vocabulary_size());
    require(tokenizer_.max_length() <= model_.config().max_position_embeddings,
            "ClipTextEncoder: expected a tokenizer of at most {} positions, found {}",
            model_.config().max_position_embeddings, tokenizer_.max_length());
  }

  /// Token ids of prompts, int64 [B, 77] on the CPU.
  [[nodiscard]] at::Tensor ids(std::span<const std::string> prompts) const {
    std::vector<at::Tensor> rows;
    rows.reserve(prompts.size());
    for (const auto& prompt : prompts) {
      auto tokens = tokenizer_.encode(prompt).ids;
      rows.push_back(at::from_blob(tokens.data(), {static_cast<std::int64_t>(tokens.size())}, at::kLong).clone());
    }
    return at::stack(rows);
  }

  /// \return [B, 77, hidden_size] in the model's dtype and on its device  \throws Error for an empty list
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    require(!prompts.empty(), "ClipTextEncoder: prompts: expected at least one, found none");
    return model_(ids(prompts));
  }

  [[nodiscard]] const BpeTokenizer& tokenizer() const { return tokenizer_; }
  [[nodiscard]] const ClipTextModel& model() const { return model_; }

  /// Moves and converts the model's weights in place.
  void to(at::Device device, at::ScalarType dtype) { model_.to(device, dtype); }

 private:
  BpeTokenizer tokenizer_;
  ClipTextModel model_;
};
static_assert(TextEncoder<ClipTextEncoder>);

}  // namespace ip2p
