#pragma once

/// \file
/// A GPT-2 in memory as a language model: continues batches of prompts token by token.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/language/concepts.hpp"
#include "ip2p/language/gpt2.hpp"
#include "ip2p/language/gpt2_files.hpp"
#include "ip2p/language/gpt2_tokenizer.hpp"
#include "ip2p/language/sampling.hpp"

namespace ip2p {

/// Continues texts with a model in memory.
///
/// The random number of a token is a function of (seed, sample, position in the continuation), so a continuation does
/// not depend on the rest of the batch. (Across batch sizes logits agree up to rounding, not bit for bit, so a near tie
/// between two tokens may be decided differently.)
class Gpt2LanguageModel {
 public:
  /// \throws Error when the tokenizer has ids that the model has no embedding for
  Gpt2LanguageModel(Gpt2Tokenizer tokenizer, Gpt2 model) : tokenizer_(std::move(tokenizer)), model_(std::move(model)) {
    require(tokenizer_.vocabulary_size() <= model_.config().vocab_size,
            "Gpt2LanguageModel: expected a tokenizer of at most {} tokens, found {}", model_.config().vocab_size,
            tokenizer_.vocabulary_size());
  }

  /// Opens a folder with the model's and the tokenizer's files. \throws Error as `load_gpt2` and `Gpt2Tokenizer::open`
  static Gpt2LanguageModel open(const std::filesystem::path& folder, at::ScalarType dtype = at::kFloat) {
    auto tokenizer = Gpt2Tokenizer::open(folder);
    auto model = load_gpt2(folder, dtype);
    model.freeze();
    return {std::move(tokenizer), std::move(model)};
  }

  /// The model's tokenizer.
  [[nodiscard]] const Gpt2Tokenizer& tokenizer() const { return tokenizer_; }
  /// The model; copies share its weights.
  [[nodiscard]] const Gpt2& model() const { return model_; }

  /// Continues all requests as one batch. Memory is proportional to their number times the longest.
  /// \throws Error for a prompt without tokens or as long as the model's context, `Cancelled` between tokens
  [[nodiscard]] std::vector<Completion> complete(std::span<const CompletionRequest> requests,
                                                 const CompletionOptions& options) const {
    const at::NoGradGuard no_grad;
    options.validate();
    if (requests.empty()) return {};
    auto texts = begin(requests, options);
    std::size_t longest = 0;
    std::int64_t capacity = 0;
    for (const auto& text : texts) longest = std::max(longest, text.prompt.size());
    for (const auto& text : texts) capacity = std::max(capacity, text.room);
    capacity += static_cast<std::int64_t>(longest);

    const auto rows = static_cast<std::int64_t>(texts.size());
    auto ids = at::full({rows, static_cast<std::int64_t>(longest)}, tokenizer_.eos(), at::kLong);
    std::vector<std::int64_t> padding;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto& prompt = texts[static_cast<std::size_t>(row)].prompt;
      padding.push_back(static_cast<std::int64_t>(longest - prompt.size()));
      std::copy(prompt.begin(), prompt.end(), ids[row].data_ptr<std::int64_t>() + padding.back());
    }

    std::vector<Completion> results(texts.size());
    auto cache = model_.start(capacity, std::move(padding));
    while (true) {
      if (options.cancel.stop_requested()) throw Cancelled("cancelled between two tokens");
      const auto logits = model_.next(ids, cache).to(at::kFloat).cpu().contiguous();
      const auto width = static_cast<std::size_t>(logits.size(1));
      std::vector<std::int64_t> going;
      std::vector<Text> left;
      for (std::size_t row = 0; row < texts.size(); ++row) {
        auto& text = texts[row];
        const std::span<const float> scores(logits.data_ptr<float>() + row * width, width);
        if (advance(text, scores, options)) {
          auto& result = results[text.request];
          result = {detail::encode_utf8(detail::decode_utf8(text.bytes, InvalidUtf8::replace)), text.finish,
                    text.tokens};
          // U+FFFD in place of ill-formed bytes may complete a stop text.
          if (detail::cut_at_stop(result.text, options.stop)) result.finish = FinishReason::stop;
        } else {
          going.push_back(static_cast<std::int64_t>(row));
          left.push_back(std::move(text));
        }
      }
      if (going.empty()) return results;
      if (left.size() < texts.size()) cache.keep(going);
      texts = std::move(left);
      ids = at::full({static_cast<std::int64_t>(texts.size()), 1}, 0, at::kLong);
      for (std::size_t row = 0; row < texts.size(); ++row) ids.data_ptr<std::int64_t>()[row] = texts[row].last;
    }
  }

 private:
  /// A continuation in progress.
  struct Text {
    std::size_t request = 0;
    std::uint64_t sample = 0;
    std::vector<std::int64_t> prompt;
    std::int64_t room = 0;  ///< Tokens that may still be generated.
    std::int64_t tokens = 0;
    std::int64_t last = 0;
    TokenCounts counts;
    std::string bytes;
    FinishReason finish = FinishReason::length;
  };

  [[nodiscard]] std::vector<Text> begin(std::span<const CompletionRequest> requests,
                                        const CompletionOptions& options) const {
    const auto context = model_.config().n_positions;
    std::vector<Text> texts;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      Text text;
      text.request = i;
      text.sample = requests[i].sample;
      text.prompt = tokenizer_.encode(requests[i].prompt);
      const auto length = static_cast<std::int64_t>(text.prompt.size());
      require(length >= 1 && length < context, "prompt {}: expected 1 to {} tokens, found {}", i + 1, context - 1,
              length);
      require(text.sample < (std::uint64_t{1} << 32), "prompt {}: sample: expected a number below 2^32, found {}",
              i + 1, text.sample);
      text.room = std::min(options.max_tokens, context - length);
      texts.push_back(std::move(text));
    }
    return texts;
  }

  /// Chooses and appends one token. \return whether the text has ended
  bool advance(Text& text, std::span<const float> logits, const CompletionOptions& options) const {
    // Ids beyond the tokenizer's only pad the embedding table.
    const auto known = logits.first(static_cast<std::size_t>(tokenizer_.vocabulary_size()));
    const auto uniform = SampleRandom(options.seed, static_cast<std::uint64_t>(text.tokens), text.sample).uniform();
    text.last = choose_token(token_probabilities(known, text.counts, options), uniform);
    ++text.tokens;
    ++text.counts[text.last];
    if (text.last == tokenizer_.eos()) {
      text.finish = FinishReason::stop;
      return true;
    }
    const auto& piece = tokenizer_.bytes_of(text.last);
    const auto before = text.bytes.size();
    text.bytes += piece;
    if (detail::cut_at_stop(text.bytes, options.stop, before)) {
      text.finish = FinishReason::stop;
      return true;
    }
    return text.tokens == text.room;
  }

  Gpt2Tokenizer tokenizer_;
  Gpt2 model_;
};
static_assert(LanguageModel<Gpt2LanguageModel>);

}  // namespace ip2p
