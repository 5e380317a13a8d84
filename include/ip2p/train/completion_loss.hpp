#pragma once

/// \file
/// Fine-tuning of a language model on pairs of prompt and completion.

#include <ATen/core/Reduction.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/data/epoch_orders.hpp"
#include "ip2p/language/gpt2.hpp"
#include "ip2p/language/gpt2_tokenizer.hpp"
#include "ip2p/train/training_loss.hpp"

namespace ip2p {

/// A text and its continuation. They are tokenised separately, as in inference.
struct CompletionPair {
  std::string prompt, completion;  ///< UTF-8; the completion follows the prompt without anything between.
};

/// Settings of a `CompletionLoss`.
struct CompletionLossOptions {
  std::int64_t batch = 8;  ///< Pairs per update.
  std::uint64_t seed = 0;  ///< Determines the order of pairs.
};

/// Mean cross-entropy of the completions' tokens given all earlier tokens; prompt tokens do not count. The order of an
/// epoch depends only on (seed, epoch).
class CompletionLoss {
 public:
  /// Returns the i-th pair, possibly varied by `random`, which belongs to one sample of one update.
  using Pairs = std::function<CompletionPair(std::int64_t i, SampleRandom& random)>;

  /// \param size number of pairs, >= 1
  CompletionLoss(Gpt2 model, Gpt2Tokenizer tokenizer, Pairs pairs, std::int64_t size,
                 CompletionLossOptions options = {})
      : model_(std::move(model)),
        tokenizer_(std::move(tokenizer)),
        pairs_(std::move(pairs)),
        size_(size),
        options_(options),
        orders_(options.seed) {
    require(size >= 1, "completion pairs: expected at least one, found {}", size);
    require(options.batch >= 1, "completion loss: batch: expected at least 1, found {}", options.batch);
  }

  /// The same for pairs in memory. \throws Error without pairs
  CompletionLoss(Gpt2 model, Gpt2Tokenizer tokenizer, const std::vector<CompletionPair>& pairs,
                 CompletionLossOptions options = {})
      : CompletionLoss(
            std::move(model), std::move(tokenizer),
            [pairs](std::int64_t i, SampleRandom&) { return pairs.at(static_cast<std::size_t>(i)); },
            static_cast<std::int64_t>(pairs.size()), options) {}

  /// Loss of update `step`'s batch, or of the `part`-th of `parts` equal parts of it; a scalar.
  /// \throws Error when `parts` does not divide the batch, for a pair without tokens, and for one longer than the
  ///   model's context
  at::Tensor operator()(std::int64_t step, std::int64_t part = 0, std::int64_t parts = 1) const {
    require(parts >= 1 && part >= 0 && part < parts && options_.batch % parts == 0,
            "completion loss: expected a batch in equal parts, found {} pairs in {}", options_.batch, parts);
    // Weights each part by its tokens, so that the mean over parts equals the batch's mean over tokens.
    const auto share = options_.batch / parts;
    std::vector<Row> rows;
    std::int64_t tokens = 0;
    for (std::int64_t k = 0; k < options_.batch; ++k) {
      auto row = read(step, k);
      tokens += static_cast<std::int64_t>(row.completion.size());
      if (k / share == part) rows.push_back(std::move(row));
    }
    return sum_over(rows) * (static_cast<double>(parts) / static_cast<double>(tokens));
  }

 private:
  struct Row {
    std::vector<std::int64_t> prompt, completion;
  };

  [[nodiscard]] Row read(std::int64_t step, std::int64_t k) const {
    const auto n = step * options_.batch + k;
    const auto index = orders_.item(n, size_);
    SampleRandom random(options_.seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(k));
    const auto pair = pairs_(index, random);
    Row row{tokenizer_.encode(pair.prompt), tokenizer_.encode(pair.completion)};
    const auto length = static_cast<std::int64_t>(row.prompt.size() + row.completion.size()) - 1;
    require(!row.prompt.empty() && !row.completion.empty(),
            "completion pair {}: expected tokens in prompt and completion, found {} and {}", index + 1,
            row.prompt.size(), row.completion.size());
    require(length <= model_.config().n_positions, "completion pair {}: expected at most {} tokens, found {}",
            index + 1, model_.config().n_positions + 1, length + 1);
    return row;
  }

  /// Summed cross-entropy. The last token predicts nothing and is left out; padding at the end of shorter rows is
  /// invisible to the tokens that count.
  [[nodiscard]] at::Tensor sum_over(const std::vector<Row>& rows) const {
    std::size_t longest = 0;
    for (const auto& row : rows) longest = std::max(longest, row.prompt.size() + row.completion.size() - 1);
    auto ids = at::zeros({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(longest)}, at::kLong);
    std::vector<std::int64_t> places, targets;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto& [prompt, completion] = rows[r];
      auto* out = ids.data_ptr<std::int64_t>() + r * longest;
      out = std::copy(prompt.begin(), prompt.end(), out);
      std::copy(completion.begin(), completion.end() - 1, out);
      for (std::size_t i = 0; i < completion.size(); ++i) {
        places.push_back(static_cast<std::int64_t>(r * longest + prompt.size() - 1 + i));
      }
      targets.insert(targets.end(), completion.begin(), completion.end());
    }
    const auto on_device = [&](const std::vector<std::int64_t>& values) {
      return detail::to_device(at::tensor(at::ArrayRef<std::int64_t>(values), at::kLong), model_.device());
    };
    const auto hidden =
        model_.hidden(detail::to_device(ids, model_.device())).flatten(0, 1).index_select(0, on_device(places));
    return at::cross_entropy_loss(model_.logits(hidden).to(at::kFloat), on_device(targets), {}, at::Reduction::Sum);
  }

  Gpt2 model_;
  Gpt2Tokenizer tokenizer_;
  Pairs pairs_;
  std::int64_t size_;
  CompletionLossOptions options_;
  EpochOrders orders_;
};
static_assert(LossByParts<CompletionLoss>);

}  // namespace ip2p
