#pragma once

/// \file
/// CLIP's tokenizer and text transformer as one text encoder.

#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/text/concepts.hpp"
#include "ip2p/text/textual_inversion.hpp"
#include "ip2p/text/weighted_tokens.hpp"

namespace ip2p {

/// Encodes prompts as CLIP's last hidden state, padded or truncated to 77 tokens and without a padding mask, as Stable
/// Diffusion does. `tokenizer().encode(prompt)` reports what is cut from a long prompt.
class ClipTextEncoder {
 public:
  using Network = ClipTextModel;  ///< What `load<ClipTextEncoder>` loads besides the tokenizer.

  /// \throws Error if the tokenizer can produce ids or lengths for which the model has no embedding
  ClipTextEncoder(BpeTokenizer tokenizer, ClipTextModel model)
      : tokenizer_(std::move(tokenizer)), model_(std::move(model)) {
    require(tokenizer_.vocabulary_size() <= model_.config().vocab_size,
            "ClipTextEncoder: expected a tokenizer of at most {} tokens, found {}", model_.config().vocab_size,
            tokenizer_.vocabulary_size());
    require(tokenizer_.max_length() <= model_.config().max_position_embeddings,
            "ClipTextEncoder: expected a tokenizer of at most {} positions, found {}",
            model_.config().max_position_embeddings, tokenizer_.max_length());
  }

  /// Token ids of `prompts`, int64 [B, 77] on the CPU. \throws Error for an empty list
  [[nodiscard]] at::Tensor ids(std::span<const std::string> prompts) const {
    require(!prompts.empty(), "ClipTextEncoder: prompts: expected at least one, found none");
    std::vector<at::Tensor> rows;
    rows.reserve(prompts.size());
    for (const auto& prompt : prompts) {
      auto tokens = marks_ ? weighted_tokens(tokenizer_, prompt).tokens.ids : tokenizer_.encode(prompt).ids;
      rows.push_back(at::from_blob(tokens.data(), {static_cast<std::int64_t>(tokens.size())}, at::kLong).clone());
    }
    return at::stack(rows);
  }

  /// \return [B, 77, hidden_size] in the model's dtype and on its device
  /// \throws Error for an empty list; with `read_marks`, for marks that `parse_prompt` refuses, and for LoRAs, which
  ///   belong to the network
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    auto context = model_(ids(prompts));
    if (!marks_) return context;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      auto weights = weighted_tokens(tokenizer_, prompts[i]).weights;
      if (weights.empty()) continue;
      const auto factors = at::from_blob(weights.data(), {static_cast<std::int64_t>(weights.size()), 1}, at::kDouble)
                               .to(context.device(), at::kFloat);
      auto row = context.select(0, static_cast<std::int64_t>(i));
      const auto before = row.to(at::kFloat);
      const auto scaled = before * factors;
      // As in AUTOMATIC1111's web UI, the mean stays what it was, so that weights compare words with each other.
      const auto mean = scaled.mean().item<double>();
      row.copy_(mean == 0 ? scaled : scaled * (before.mean().item<double>() / mean));
    }
    return context;
  }

  /// Whether prompts may weight their words, `(words:1.5)` and so on: see `parse_prompt`. Off unless this switches it
  /// on. Prompts without such marks are encoded the same, bit by bit.
  void read_marks(bool read) { marks_ = read; }

  /// Adds a textual inversion: from now on `embedding.word` in a prompt stands for its vectors, and "word_1", "word_2",
  /// ... for its second, third, ... vector alone. Other prompts are encoded as before.
  ///
  /// Copies of this encoder share the model but not the added word, so add embeddings before copying.
  /// \throws Error for vectors of the wrong width, for more vectors than fit into a prompt, and for a word that
  ///   is already a token; nothing changes in that case
  void add_embedding(const TextualInversion& embedding) {
    const auto& vectors = embedding.vectors;
    const auto room = tokenizer_.max_length() - 2;
    require(vectors.defined() && vectors.dim() == 2 && vectors.size(0) >= 1 && vectors.size(0) <= room,
            "embedding '{}': expected 1 to {} vectors [n, {}], found {}", embedding.word, room,
            model_.config().hidden_size, vectors.defined() ? shape_text(vectors.sizes()) : "none");
    require(vectors.size(1) == model_.config().hidden_size,
            "embedding '{}': expected vectors of width {}{}, found {}{}", embedding.word, model_.config().hidden_size,
            detail::width_owner(model_.config().hidden_size), vectors.size(1), detail::width_owner(vectors.size(1)));
    auto tokenizer = tokenizer_;
    model_.add_rows(tokenizer.add_token(embedding.word, vectors.size(0)), vectors);
    tokenizer_ = std::move(tokenizer);
  }

  /// The encoder's tokenizer.
  [[nodiscard]] const BpeTokenizer& tokenizer() const { return tokenizer_; }
  /// The model; copies share its weights.
  [[nodiscard]] const ClipTextModel& model() const { return model_; }

  /// Moves and converts the model's weights in place.
  void to(at::Device device, at::ScalarType dtype) { model_.to(device, dtype); }
  /// Moves the model's weights in place, without converting them.
  void to(at::Device device) { model_.to(device); }
  /// Converts the model's weights in place, wherever they are.
  void to(at::ScalarType dtype) { model_.to(dtype); }

 private:
  BpeTokenizer tokenizer_;
  ClipTextModel model_;
  bool marks_ = false;
};
static_assert(TextEncoder<ClipTextEncoder>);

}  // namespace ip2p
