#pragma once

/// \file
/// Group normalisation of NHWC maps with SiLU, and their gradients:
///
///     y = act(((x + add) - mean) / sqrt(var + eps) * weight + bias)
///
/// with mean and variance over the pixels and channels of a group. The map is read once and written once where a
/// cluster's shared memory holds it (map_plan.cuh), else read twice. Results do not depend on the order in which blocks
/// run; there are no atomic operations.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ip2p/kernels/arithmetic.hpp"
#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/map_plan.cuh"
#include "ip2p/kernels/cuda/parameter_gradients.cuh"
#include "ip2p/kernels/cuda/phases.cuh"
#include "ip2p/kernels/norm_arithmetic.hpp"

namespace ip2p::kernels {

/// What is the same forward and backward.
struct GroupNormInputs {
  MapShape shape{};                            ///< Of x.
  Number number = Number::fp32;                ///< Elements of x, y and their gradients.
  const void* x = nullptr;                     ///< [samples, pixels, channels].
  AnyNumbers add{};                            ///< [samples, channels] or [channels], or none.
  std::int64_t add_stride = 0;                 ///< channels or 0.
  AnyNumbers weight{.missing = 1.0f}, bias{};  ///< [channels], or none.
  bool silu = false;                           ///< Whether act is silu or nothing.
};

/// Arguments of the forward kernel.
struct GroupNormForwardArguments : GroupNormInputs {
  float eps = 1e-5f;         ///< Added to the variance.
  void* y = nullptr;         ///< Result, of the shape of x.
  float* mean = nullptr;     ///< [samples, groups], or null: not written.
  float* inverse = nullptr;  ///< 1 / sqrt(var + eps), the same.
};

/// Arguments of the backward kernel.
struct GroupNormBackwardArguments : GroupNormInputs {
  const void* dy = nullptr;                         ///< Gradient of y.
  const float *mean = nullptr, *inverse = nullptr;  ///< What the forward kernel wrote.
  void* dx = nullptr;                               ///< Gradient of x.
  float* dadd = nullptr;                            ///< [samples, channels], of what is added to each sample; or null.
  MutableAnyNumbers dweight{}, dbias{};             ///< [channels], or none.
};

/// See the file's comment. \tparam n elements that a thread moves at once
template <class Element, int n, MapPass pass>
struct GroupNormForward {
  static constexpr int threads = map_threads;
  static constexpr bool precise = std::is_same_v<Element, float>;
  static constexpr int first = pass == MapPass::apply ? 2 : 0;
  static constexpr int last = pass == MapPass::sums ? 1 : 5;
  static IP2P_HOST_DEVICE constexpr Meeting after(int phase) {
    if (phase == 0 || (phase == 4 && pass == MapPass::apply)) return Meeting::block;
    return phase == 2 || phase == 3 ? Meeting::warp_sum : Meeting::cluster;
  }
  struct Registers {
    float exchanged[1];
    float mean;
  };

  GroupNormForwardArguments given;
  MapPlan plan;
  float* workspace;

  template <int phase>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& registers, const SharedMemory& memory) const {
    auto* shared = reinterpret_cast<float*>(memory.own);
    if constexpr (phase == 0) gather(place, memory);
    if constexpr (phase == 1) total_rows<pass>(plan, place, memory, workspace);
    if constexpr (phase == 2) {
      registers.exchanged[0] = 0.0f;
      each_channel(place, [&](int c, std::int64_t channel) {
        const float pivot = to_float(static_cast<const Element*>(
                                given.x)[place.z * plan.shape.pixels * plan.shape.channels + channel]) +
                            given.add[place.z * given.add_stride + channel];
        const auto moments = arithmetic::shifted(
            static_cast<float>(plan.shape.pixels), pivot, total_blocks<pass>(plan, place, memory, workspace, c),
            total_blocks<pass>(plan, place, memory, workspace, plan.slice_channels + c));
        shared[plan.channels_at() + c] = moments.mean;
        shared[plan.channels_at() + plan.slice_channels + c] = moments.m2;
        registers.exchanged[0] += moments.mean;
      });
    }
    if constexpr (phase == 3) {
      registers.mean = registers.exchanged[0] / static_cast<float>(plan.group_channels);
      registers.exchanged[0] = 0.0f;
      each_channel(place, [&](int c, std::int64_t) {
        const float apart = shared[plan.channels_at() + c] - registers.mean;
        registers.exchanged[0] += shared[plan.channels_at() + plan.slice_channels + c] +
                                  static_cast<float>(plan.shape.pixels) * apart * apart;
      });
    }
    if constexpr (phase == 4) {
      const auto count = static_cast<float>(plan.shape.pixels) * static_cast<float>(plan.group_channels);
      const arithmetic::Moments moments{count, registers.mean, registers.exchanged[0]};
      const float inverse = arithmetic::inverse_deviation(moments, given.eps);
      each_channel(place, [&](int c, std::int64_t channel) {
        const auto affine =
            arithmetic::normalisation(registers.mean, inverse, given.add[place.z * given.add_stride + channel],
                                      given.weight[channel], given.bias[channel]);
        shared[plan.channels_at() + c] = affine.scale;
        shared[plan.channels_at() + plan.slice_channels + c] = affine.shift;
      });
      if (place.x == 0 && place.lane() == 0 && place.warp() < plan.slice_groups) {
        const std::int64_t group = place.z * plan.shape.groups + place.y * plan.slice_groups + place.warp();
        if (given.mean != nullptr) given.mean[group] = registers.mean;
        if (given.inverse != nullptr) given.inverse[group] = inverse;
      }
    }
    if constexpr (phase == 5) write(place, memory);
  }

  /// Calls `work(c, channel)` for the channels of this warp's group that are this lane's.
  template <class Work>
  IP2P_HOST_DEVICE void each_channel(const Place& place, Work&& work) const {
    if (place.warp() >= plan.slice_groups) return;
    for (int i = place.lane(); i < plan.group_channels; i += warp_size) {
      const int c = place.warp() * plan.group_channels + i;
      work(c, static_cast<std::int64_t>(place.y) * plan.slice_channels + c);
    }
  }

  /// Sums of the deviations from the first pixel, and of their squares, over the block's pixels of each channel.
  IP2P_HOST_DEVICE void gather(const Place& place, const SharedMemory& memory) const {
    const MapLane lane(plan, place);
    if (lane.row >= plan.rows) return;
    const auto* from = static_cast<const Element*>(given.x) + lane.offset;
    auto* tile = reinterpret_cast<Element*>(memory.own + plan.tile_at()) + lane.channel;
    const auto pivot = load<n>(from);
    float sums[n] = {}, squares[n] = {};
    constexpr int at_once = 4;  // loads under way
    for (std::int64_t pixel = lane.first + lane.row; pixel < lane.last; pixel += at_once * plan.rows) {
      Vector<Element, n> read[at_once];
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        read[k] = p < lane.last ? load<n>(from + p * plan.shape.channels) : pivot;
      }
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        if (pass == MapPass::whole && p < lane.last) {
          store<n>(tile + (p - lane.first) * plan.slice_channels, read[k]);
        }
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {  // a pixel beyond the last one counts as the first and adds 0
          const float apart = to_float(read[k].element[j]) - to_float(pivot.element[j]);
          sums[j] += apart;
          squares[j] += apart * apart;
        }
      }
    }
    auto* partial = reinterpret_cast<float*>(memory.own) + lane.row * plan.slice_channels + lane.channel;
    IP2P_UNROLL
    for (int j = 0; j < n; ++j) {
      partial[j] = sums[j];
      partial[plan.rows * plan.slice_channels + j] = squares[j];
    }
  }

  /// The result from the channels' factors.
  IP2P_HOST_DEVICE void write(const Place& place, const SharedMemory& memory) const {
    const MapLane lane(plan, place);
    if (lane.row >= plan.rows) return;
    const auto* from = static_cast<const Element*>(given.x) + lane.offset;
    auto* to = static_cast<Element*>(given.y) + lane.offset;
    const auto* tile = reinterpret_cast<const Element*>(memory.own + plan.tile_at()) + lane.channel;
    const auto* factors = reinterpret_cast<const float*>(memory.own) + plan.channels_at() + lane.channel;
    float scale[n], shift[n];
    IP2P_UNROLL
    for (int j = 0; j < n; ++j) {
      scale[j] = factors[j];
      shift[j] = factors[plan.slice_channels + j];
    }
    constexpr int at_once = 4;
    for (std::int64_t pixel = lane.first + lane.row; pixel < lane.last; pixel += at_once * plan.rows) {
      Vector<Element, n> moved[at_once];
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        if (p >= lane.last) break;
        moved[k] = pass == MapPass::whole ? load<n>(tile + (p - lane.first) * plan.slice_channels)
                                          : load<n>(from + p * plan.shape.channels);
      }
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        if (p >= lane.last) break;
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {
          moved[k].element[j] = from_float<Element>(
              arithmetic::silu_if<precise>(given.silu, to_float(moved[k].element[j]) * scale[j] + shift[j]));
        }
        store<n>(to + p * plan.shape.channels, moved[k]);
      }
    }
  }
};

/// See the file's comment.
template <class Element, int n, MapPass pass>
struct GroupNormBackward {
  static constexpr int threads = map_threads;
  static constexpr bool precise = std::is_same_v<Element, float>;
  static constexpr int first = pass == MapPass::apply ? 2 : 0;
  static constexpr int last = pass == MapPass::sums ? 1 : 4;
  static IP2P_HOST_DEVICE constexpr Meeting after(int phase) {
    if (phase == 0 || (phase == 3 && pass == MapPass::apply)) return Meeting::block;
    return phase == 2 ? Meeting::warp_sum : Meeting::cluster;
  }
  struct Registers {
    float exchanged[2];
  };

  GroupNormBackwardArguments given;
  MapPlan plan;
  float* workspace;
  float* parameter_sums;  ///< [samples, 2, channels]: what each sample adds to the gradients of bias and weight.

  template <int phase>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& registers, const SharedMemory& memory) const {
    if constexpr (phase == 0) gather(place, memory);
    if constexpr (phase == 1) total_rows<pass>(plan, place, memory, workspace);
    if constexpr (phase == 2) {
      auto* channels = reinterpret_cast<float*>(memory.own) + plan.channels_at();
      registers.exchanged[0] = registers.exchanged[1] = 0.0f;
      each_channel(place, [&](int c, std::int64_t channel) {
        float sums[3];
        for (int i = 0; i < 3; ++i) {
          sums[i] = total_blocks<pass>(plan, place, memory, workspace, i * plan.slice_channels + c);
          channels[i * plan.slice_channels + c] = sums[i];
        }
        registers.exchanged[0] += given.weight[channel] * sums[0];
        registers.exchanged[1] += given.weight[channel] * sums[1];
        if (place.x == 0) {
          float* to = parameter_sums + place.z * 2 * plan.shape.channels + channel;
          to[0] = sums[0];
          to[plan.shape.channels] = sums[1];
        }
      });
    }
    if constexpr (phase == 3) {
      if (place.warp() >= plan.slice_groups) return;
      auto* shared = reinterpret_cast<float*>(memory.own);
      const auto pixels = static_cast<float>(plan.shape.pixels);
      const float share = 1.0f / (pixels * static_cast<float>(plan.group_channels));
      const arithmetic::NormGradient means{registers.exchanged[0] * share, registers.exchanged[1] * share,
                                           given.inverse[group_of(place, place.warp())]};
      if (place.lane() == 0) {
        shared[plan.groups_at() + 2 * place.warp()] = means.mean;
        shared[plan.groups_at() + 2 * place.warp() + 1] = means.towards;
      }
      if (place.x == 0 && given.dadd != nullptr) {
        const float* channels = shared + plan.channels_at();
        each_channel(place, [&](int c, std::int64_t channel) {
          given.dadd[place.z * plan.shape.channels + channel] = arithmetic::norm_gradient_sum(
              given.weight[channel], channels[c], channels[2 * plan.slice_channels + c], pixels, means);
        });
      }
    }
    if constexpr (phase == 4) write(place, memory);
  }

  /// Number of a slice's group in the tables of means.
  [[nodiscard]] IP2P_HOST_DEVICE std::int64_t group_of(const Place& place, int group) const {
    return place.z * plan.shape.groups + place.y * plan.slice_groups + group;
  }

  /// Calls `work(c, channel)` for the channels of this warp's group that are this lane's.
  template <class Work>
  IP2P_HOST_DEVICE void each_channel(const Place& place, Work&& work) const {
    if (place.warp() >= plan.slice_groups) return;
    for (int i = place.lane(); i < plan.group_channels; i += warp_size) {
      const int c = place.warp() * plan.group_channels + i;
      work(c, static_cast<std::int64_t>(place.y) * plan.slice_channels + c);
    }
  }

  /// What a thread knows of its channels.
  struct Channels {
    float scale[n], shift[n];  ///< normed = x * scale + shift
    float weight[n], bias[n];

    IP2P_HOST_DEVICE Channels(const GroupNormBackward& kernel, const Place& place, const MapLane& lane) {
      const auto& given = kernel.given;
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const int c = lane.channel + j;
        const std::int64_t channel = static_cast<std::int64_t>(place.y) * kernel.plan.slice_channels + c;
        const auto group = kernel.group_of(place, c / kernel.plan.group_channels);
        const auto affine = arithmetic::normalisation(given.mean[group], given.inverse[group],
                                                      given.add[place.z * given.add_stride + channel], 1.0f, 0.0f);
        scale[j] = affine.scale;
        shift[j] = affine.shift;
        weight[j] = given.weight[channel];
        bias[j] = given.bias[channel];
      }
    }
  };

  /// An element's normalised value and the gradient of normed * weight + bias.
  struct Point {
    float normed, gradient;
  };
  [[nodiscard]] IP2P_HOST_DEVICE Point point(const Channels& channels, int j, Element x, Element dy) const {
    const float normed = to_float(x) * channels.scale[j] + channels.shift[j];
    const float before = normed * channels.weight[j] + channels.bias[j];
    return {normed, to_float(dy) * arithmetic::silu_if_slope<precise>(given.silu, before)};
  }

  /// Sums of the gradients, of gradient * normed and of normed over the block's pixels of each channel.
  IP2P_HOST_DEVICE void gather(const Place& place, const SharedMemory& memory) const {
    const MapLane lane(plan, place);
    if (lane.row >= plan.rows) return;
    const Channels channels(*this, place, lane);
    const auto* x = static_cast<const Element*>(given.x) + lane.offset;
    const auto* dy = static_cast<const Element*>(given.dy) + lane.offset;
    auto* tile_x = reinterpret_cast<Element*>(memory.own + plan.tile_at()) + lane.channel;
    auto* tile_dy = tile_x + plan.block_pixels * plan.slice_channels;
    float sums[3][n] = {};
    constexpr int at_once = 2;
    for (std::int64_t pixel = lane.first + lane.row; pixel < lane.last; pixel += at_once * plan.rows) {
      Vector<Element, n> read_x[at_once], read_dy[at_once];
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        if (p >= lane.last) break;
        read_x[k] = load<n>(x + p * plan.shape.channels);
        read_dy[k] = load<n>(dy + p * plan.shape.channels);
      }
      IP2P_UNROLL
      for (int k = 0; k < at_once; ++k) {
        const auto p = pixel + k * plan.rows;
        if (p >= lane.last) break;
        if constexpr (pass == MapPass::whole) {
          store<n>(tile_x + (p - lane.first) * plan.slice_channels, read_x[k]);
          store<n>(tile_dy + (p - lane.first) * plan.slice_channels, read_dy[k]);
        }
        IP2P_UNROLL
        for (int j = 0; j < n; ++j) {
          const auto one = point(channels, j, read_x[k].element[j], read_dy[k].element[j]);
          sums[0][j] += one.gradient;
          sums[1][j] += one.gradient * one.normed;
          sums[2][j] += one.normed;
        }
      }
    }
    auto* partial = reinterpret_cast<float*>(memory.own) + lane.row * plan.slice_channels + lane.channel;
    IP2P_UNROLL
    for (int i = 0; i < 3; ++i) {
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) partial[i * plan.rows * plan.slice_channels + j] = sums[i][j];
    }
  }

  /// The gradient of x.
  IP2P_HOST_DEVICE void write(const Place& place, const SharedMemory& memory) const {
    const MapLane lane(plan, place);
    if (lane.row >= plan.rows) return;
    const Channels channels(*this, place, lane);
    const auto* groups = reinterpret_cast<const float*>(memory.own) + plan.groups_at();
    const auto* x = static_cast<const Element*>(given.x) + lane.offset;
    const auto* dy = static_cast<const Element*>(given.dy) + lane.offset;
    const auto* tile_x = reinterpret_cast<const Element*>(memory.own + plan.tile_at()) + lane.channel;
    const auto* tile_dy = tile_x + plan.block_pixels * plan.slice_channels;
    auto* to = static_cast<Element*>(given.dx) + lane.offset;
    arithmetic::NormGradient means[n];
    IP2P_UNROLL
    for (int j = 0; j < n; ++j) {
      const int group = (lane.channel + j) / plan.group_channels;
      means[j] = {groups[2 * group], groups[2 * group + 1], channels.scale[j]};
    }
    for (std::int64_t p = lane.first + lane.row; p < lane.last; p += plan.rows) {
      const auto in_tile = (p - lane.first) * plan.slice_channels;
      const auto read_x = pass == MapPass::whole ? load<n>(tile_x + in_tile) : load<n>(x + p * plan.shape.channels);
      const auto read_dy = pass == MapPass::whole ? load<n>(tile_dy + in_tile) : load<n>(dy + p * plan.shape.channels);
      Vector<Element, n> result;
      IP2P_UNROLL
      for (int j = 0; j < n; ++j) {
        const auto one = point(channels, j, read_x.element[j], read_dy.element[j]);
        result.element[j] =
            from_float<Element>(arithmetic::norm_gradient(one.gradient * channels.weight[j], one.normed, means[j]));
      }
      store<n>(to + p * plan.shape.channels, result);
    }
  }
};

/// Whether vectors may be used, and the plan, of a forward pass.
inline MapPlan plan_of(const GroupNormForwardArguments& given, const DeviceLimits& limits) {
  return plan_map(given.shape, given.number, aligned(given.x, given.y), limits, 1, 2);
}

/// The same of a backward pass.
inline MapPlan plan_of(const GroupNormBackwardArguments& given, const DeviceLimits& limits) {
  return plan_map(given.shape, given.number, aligned(given.x, given.dy, given.dx), limits, 2, 3);
}

/// Bytes of workspace that `group_norm_forward` needs.
inline std::size_t workspace_bytes(const GroupNormForwardArguments& /*given*/, const MapPlan& plan) {
  return static_cast<std::size_t>(plan.workspace_floats()) * sizeof(float);
}

/// Bytes of workspace that `group_norm_backward` needs.
inline std::size_t workspace_bytes(const GroupNormBackwardArguments& given, const MapPlan& plan) {
  return static_cast<std::size_t>(plan.workspace_floats() + given.shape.samples * 2 * given.shape.channels) *
         sizeof(float);
}

namespace detail {

/// Runs Kernel<..., pass> over a plan.
template <class Kernel, class Queue>
Status launch_map(const Kernel& kernel, bool cluster, const Queue& queue) {
  const auto& plan = kernel.plan;
  return queue(kernel, Grid{plan.blocks, plan.slices, plan.shape.samples, cluster, plan.shared_bytes});
}

}  // namespace detail

/// Queues the forward pass. \param plan `plan_of(given, ...)`, possible  \param workspace of `workspace_bytes`
template <class Queue>
Status group_norm_forward(const GroupNormForwardArguments& given, const MapPlan& plan, void* workspace,
                          const Queue& queue) {
  if (!plan.possible) return invalid_value;
  return with_vector(given.number, plan.vector > 1, [&](auto element, auto length) {
    using Element = decltype(element);
    constexpr int n = decltype(length)::value;
    auto* sums = static_cast<float*>(workspace);
    if constexpr (n > 1) {
      if (plan.whole) {
        return detail::launch_map(GroupNormForward<Element, n, MapPass::whole>{given, plan, sums}, true, queue);
      }
    }
    const auto error = detail::launch_map(GroupNormForward<Element, n, MapPass::sums>{given, plan, sums}, false, queue);
    if (error != 0) return error;
    return detail::launch_map(GroupNormForward<Element, n, MapPass::apply>{given, plan, sums}, false, queue);
  });
}

/// Queues the backward pass. \param plan `plan_of(given, ...)`, possible  \param workspace of `workspace_bytes`
template <class Queue>
Status group_norm_backward(const GroupNormBackwardArguments& given, const MapPlan& plan, void* workspace,
                           const Queue& queue) {
  if (!plan.possible) return invalid_value;
  auto* parameter_sums = static_cast<float*>(workspace);
  auto* sums = parameter_sums + given.shape.samples * 2 * given.shape.channels;
  const auto error = with_vector(given.number, plan.vector > 1, [&](auto element, auto length) {
    using Element = decltype(element);
    constexpr int n = decltype(length)::value;
    if constexpr (n > 1) {
      if (plan.whole) {
        return detail::launch_map(GroupNormBackward<Element, n, MapPass::whole>{given, plan, sums, parameter_sums},
                                  true, queue);
      }
    }
    const auto failed = detail::launch_map(
        GroupNormBackward<Element, n, MapPass::sums>{given, plan, sums, parameter_sums}, false, queue);
    if (failed != 0) return failed;
    return detail::launch_map(GroupNormBackward<Element, n, MapPass::apply>{given, plan, sums, parameter_sums}, false,
                              queue);
  });
  if (error != 0 || (given.dweight.data == nullptr && given.dbias.data == nullptr)) return error;
  return queue(
      ParameterGradients{parameter_sums, given.shape.samples, given.shape.channels, given.dbias, given.dweight},
      Grid{.x = divide_up(2 * given.shape.channels, ParameterGradients::threads)});
}

}  // namespace ip2p::kernels
