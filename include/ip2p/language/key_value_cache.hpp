#pragma once

/// \file
/// Caches the keys and values of the tokens that a transformer has seen, for generation token by token.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// Cache for a batch of texts aligned at their ends: shorter ones are padded at the front, and no token attends to
/// padding.
class KeyValueCache {
 public:
  /// \param padding tokens of padding before each text, one number per text  \param capacity in tokens, padding
  ///   included  \throws Error for sizes below 1, no text, and padding that leaves no room for a text
  KeyValueCache(std::int64_t layers, std::int64_t heads, std::int64_t width, std::int64_t capacity,
                std::vector<std::int64_t> padding, const at::TensorOptions& options)
      : padding_(std::move(padding)), capacity_(capacity) {
    require(layers > 0 && heads > 0 && width > 0 && capacity > 0,
            "key-value cache: expected positive sizes, found {} layers, {} heads of width {} and a capacity of {}",
            layers, heads, width, capacity);
    require(!padding_.empty(), "key-value cache: expected at least one text, found none");
    for (const auto count : padding_) {
      require(count >= 0 && count < capacity, "key-value cache: padding: expected 0 to {} tokens, found {}",
              capacity - 1, count);
    }
    store_ = at::empty({layers, 2, batch(), heads, capacity, width}, options);
  }

  /// Number of texts.
  [[nodiscard]] std::int64_t batch() const { return static_cast<std::int64_t>(padding_.size()); }

  /// Tokens held, padding included.
  [[nodiscard]] std::int64_t length() const { return length_; }
  /// Most tokens that it can hold, padding included.
  [[nodiscard]] std::int64_t capacity() const { return capacity_; }

  /// Tokens held of the longest text, padding excluded; less than 0 while no text has begun.
  [[nodiscard]] std::int64_t longest() const { return length_ - *std::min_element(padding_.begin(), padding_.end()); }

  /// \throws Error unless it was made for a model of this shape
  void require_fits(std::int64_t layers, std::int64_t heads, std::int64_t width) const {
    require(store_.size(0) == layers && store_.size(3) == heads && store_.size(5) == width,
            "key-value cache: expected one for {} layers and {} heads of width {}, found one for {}, {} and {}", layers,
            heads, width, store_.size(0), store_.size(3), store_.size(5));
  }

  /// Appends keys and values [B, heads, T, d] of the tokens after `length()` for one layer, T at most `capacity()` -
  /// `length()`. \return those of all tokens, as views of the cache
  std::pair<at::Tensor, at::Tensor> write(std::int64_t layer, const at::Tensor& keys, const at::Tensor& values) {
    const auto count = keys.size(2);
    const auto put = [&](std::int64_t which, const at::Tensor& rows) {
      const auto all = store_.select(0, layer).select(0, which);
      all.narrow(2, length_, count).copy_(rows);
      return all.narrow(2, 0, length_ + count);
    };
    return {put(0, keys), put(1, values)};
  }

  /// Call once `write` has added `count` tokens in every layer.
  void advance(std::int64_t count) { length_ += count; }

  /// Positions of the next `count` tokens in their texts, int64 [B, count]; 0 for padding.
  [[nodiscard]] at::Tensor positions(std::int64_t count) const {
    const auto index = at::arange(length_, length_ + count, at::kLong).unsqueeze(0);
    return detail::to_device((index - shift()).clamp_min(0), store_.device());
  }

  /// Which tokens the next `count` attend to, bool [B, 1, count, length + count]; undefined if no mask is needed.
  [[nodiscard]] at::Tensor mask(std::int64_t count) const {
    const bool padded = std::any_of(padding_.begin(), padding_.end(), [](std::int64_t n) { return n > 0; });
    if (!padded && (count == 1 || length_ == 0)) return {};
    const auto query = at::arange(length_, length_ + count, at::kLong).view({1, count, 1});
    const auto key = at::arange(length_ + count, at::kLong).view({1, 1, length_ + count});
    // Padding attends to itself: a row without any key would give NaN, which would spread to all values.
    const auto seen = (key <= query) & ((key >= shift().unsqueeze(-1)) | (key == query));
    return detail::to_device(seen.unsqueeze(1), store_.device());
  }

  /// Keeps only the texts `rows`, in that order. \throws Error for no rows, and for one that there is not
  void keep(const std::vector<std::int64_t>& rows) {
    require(!rows.empty(), "key-value cache: rows: expected at least one, found none");
    std::vector<std::int64_t> padding;
    for (const auto row : rows) {
      require(row >= 0 && row < batch(), "key-value cache: rows: expected 0 to {}, found {}", batch() - 1, row);
      padding.push_back(padding_[static_cast<std::size_t>(row)]);
    }
    padding_ = std::move(padding);
    const auto kept = at::tensor(at::ArrayRef<std::int64_t>(rows), at::kLong);
    store_ = store_.index_select(2, detail::to_device(kept, store_.device()));
  }

 private:
  [[nodiscard]] at::Tensor shift() const {
    return at::tensor(at::ArrayRef<std::int64_t>(padding_), at::kLong).unsqueeze(1);
  }

  std::vector<std::int64_t> padding_;
  std::int64_t capacity_, length_ = 0;
  at::Tensor store_;  ///< [layers, 2, B, heads, capacity, d]
};

}  // namespace ip2p
