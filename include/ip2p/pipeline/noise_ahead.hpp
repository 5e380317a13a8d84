#pragma once

/// \file
/// Draws the noise of a run's steps in advance, so that it is on the device in time.

#include <ATen/ops/stack.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// Wraps a `NoiseSource`: draws the noise of several steps at once, in order, and copies it to the device in one
/// transfer. Drawn step by step, each draw would make an accelerator wait for the host.
///
/// The tensors equal the source's, bit for bit, for samplers that ask for draws once each, in order and without gaps,
/// beginning with any; an out-of-order draw goes to the source directly. The source may end up to a block of draws
/// ahead of the run. On a CPU nothing is drawn in advance.
template <class Source>
class NoiseAhead {
  static_assert((require_noise_source<Source>(), true));

 public:
  /// \param source kept by reference  \param steps of the run, which is also the last draw
  NoiseAhead(Source& source, std::int64_t steps, at::Device device)
      : NoiseAhead(source, steps, device, device.is_cpu() ? 1 : 64) {}

  /// \param block limit on draws held at once, as are 64 MiB; 1 draws nothing in advance
  NoiseAhead(Source& source, std::int64_t steps, at::Device device, std::int64_t block)
      : source_(source), steps_(steps), device_(device), block_(block) {}

  /// The source's noise [B, ...], fp32, on the run's device.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    if (block_ <= 1 || draw < 1 || draw > steps_) return source_.normal(shape, draw);
    const auto index = draw - first_;
    if (index >= 0 && index < static_cast<std::int64_t>(held_.size())) {
      if (held_[static_cast<std::size_t>(index)].sizes() == shape) return held_[static_cast<std::size_t>(index)];
      return source_.normal(shape, draw);
    }
    if (!held_.empty() && draw != first_ + static_cast<std::int64_t>(held_.size())) return source_.normal(shape, draw);
    std::vector<at::Tensor> drawn{source_.normal(shape, draw)};
    const auto bytes = static_cast<std::int64_t>(drawn[0].nbytes());
    const auto most = std::clamp<std::int64_t>(most_bytes / std::max<std::int64_t>(bytes, 1), 1, block_);
    for (auto next = draw + 1; next <= std::min(steps_, draw + most - 1); ++next) {
      drawn.push_back(source_.normal(shape, next));
    }
    held_ = detail::to_device(at::stack(drawn), device_).unbind(0);
    first_ = draw;
    return held_.front();
  }

 private:
  static constexpr std::int64_t most_bytes = std::int64_t{64} << 20;

  Source& source_;
  std::int64_t steps_;
  at::Device device_;
  std::int64_t block_;
  std::int64_t first_ = 1;  ///< Index of the draw in held_[0].
  std::vector<at::Tensor> held_;
};

}  // namespace ip2p
