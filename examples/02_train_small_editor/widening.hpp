#pragma once

/// \file
/// Weights of a UNet in one that is wider at its finest resolution.

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <cstddef>
#include <cstdint>

#include "ip2p/unet/unet.hpp"
#include "principal_start.hpp"

namespace small_editor {

/// Copies weights of a UNet to another one that is as wide or, at its finest resolution, wider. Channels stay in their
/// norm groups. New channels keep their fresh weights; what was there before does not read them at first.
class Widening {
 public:
  Widening(const ip2p::UNetConfig& from, const ip2p::UNetConfig& to)
      : before_(from.block_out_channels.front()), now_(to.block_out_channels.front()), groups_(to.norm_num_groups) {}

  /// Whether a weight of shape `from` can become one of shape `to`.
  [[nodiscard]] bool explains(at::IntArrayRef from, at::IntArrayRef to) const {
    if (from.size() != to.size()) return false;
    for (std::size_t axis = 0; axis < from.size(); ++axis) {
      if (from[axis] == to[axis]) continue;
      if (axis > 1 || now_ < before_ || places(from[axis], to[axis]).numel() == 0) return false;
    }
    return true;
  }

  /// Copies a weight or bias; channels are the first one or two dimensions. \pre `explains` their shapes
  void copy(const at::Tensor& from, const at::Tensor& to) const {
    auto values = from;
    if (from.dim() > 1 && from.size(1) != to.size(1)) {
      auto shape = from.sizes().vec();
      shape[1] = to.size(1);
      values = at::zeros(shape, from.options()).index_copy_(1, places(from.size(1), to.size(1)), from);
    }
    at::Tensor(to).index_copy_(0, places(from.size(0), to.size(0)), values);
  }

  /// The first layer of the time embedding reads other frequencies; this makes it see in them what it saw before, as
  /// nearly as they can say it: well at low frequencies, hardly at the highest.
  /// \param from, to weights [C, width] and [C', width']
  void copy_frequencies(const at::Tensor& from, const at::Tensor& to) const {
    if (before_ == now_) return copy(from, to);
    const auto timesteps = at::arange(1000, at::kFloat);
    const auto map = detail::least_squares(ip2p::timestep_embedding(timesteps, now_).to(at::kDouble),
                                           ip2p::timestep_embedding(timesteps, before_).to(at::kDouble));
    copy(from.matmul(map.t().to(at::kFloat)), to);
  }

  /// Where the channels of an axis go, [before]; nothing if a wider finest resolution does not make `before` to `now`.
  [[nodiscard]] at::Tensor places(std::int64_t before, std::int64_t now) const {
    if (before == now) return at::arange(now, at::kLong);
    for (const std::int64_t times : {1, 4}) {  // the time embedding is four times as wide as the finest resolution
      if (before == times * before_ && now == times * now_) return spread(before, now);
    }
    // On the way up, a block reads the channels of the block before it, then those of a skip connection.
    const auto own = before - before_, own_now = now - now_;
    if (own <= 0 || (own != own_now && (own != before_ || own_now != now_))) return at::arange(0, at::kLong);
    return at::cat({places(own, own_now), spread(before_, now_) + own_now});
  }

 private:
  [[nodiscard]] at::Tensor spread(std::int64_t before, std::int64_t now) const {
    const auto channel = at::arange(before, at::kLong);
    const auto group = before / groups_;
    return channel.div(group, "floor") * (now / groups_) + channel.remainder(group);
  }

  std::int64_t before_, now_, groups_;
};

}  // namespace small_editor
