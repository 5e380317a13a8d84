#pragma once

/// \file
/// How a feature map in NHWC order is divided among blocks when its channels are normalised in groups.
///
/// A slice is a few whole groups, as many as make whole vectors. The pixels of a (sample, slice) are divided among the
/// blocks of a cluster, which keep them in shared memory between reading and writing; where they do not fit or there
/// are no clusters, among any number of blocks of two kernels, the first of which only sums. A thread stays with one
/// vector of channels and walks down the pixels.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/phases.cuh"

namespace ip2p::kernels {

/// Sizes of a map [samples, pixels, channels], contiguous.
struct MapShape {
  std::int64_t samples, pixels, channels, groups;  ///< groups divides channels.
};

/// Which part of the work a kernel does.
enum class MapPass {
  whole,  ///< All of it, one cluster a (sample, slice).
  sums,   ///< Each block's sums of its channels, to memory.
  apply,  ///< The rest, from those sums.
};

/// Threads of a block.
inline constexpr int map_threads = 256;

/// The division of a map.
struct MapPlan {
  bool possible = false;          ///< Whether kernels take such a map.
  bool whole = false;             ///< Whether one kernel with clusters does all.
  MapShape shape{};               ///< As given.
  int vector = 1;                 ///< Elements that a thread reads at once.
  int group_channels = 0;         ///< Channels of a group.
  int slice_groups = 0;           ///< Groups of a slice, at most the warps of a block.
  int slice_channels = 0;         ///< Channels of a slice, whole vectors.
  int slices = 0;                 ///< In a sample.
  int row_vectors = 0;            ///< Threads side by side on a pixel.
  int rows = 0;                   ///< Pixels that a block works on at once.
  int blocks = 0;                 ///< That share a (sample, slice).
  int sums = 0;                   ///< Numbers a channel that are summed over pixels.
  std::int64_t block_pixels = 0;  ///< Pixels of a block; the last ones may have fewer or none.
  std::size_t shared_bytes = 0;   ///< Of a block.

  /// Floats of shared memory: each row's sums, then the block's, then what is known of each channel and group.
  [[nodiscard]] IP2P_HOST_DEVICE int totals_at() const { return sums * rows * slice_channels; }
  /// Place of the channels' numbers.
  [[nodiscard]] IP2P_HOST_DEVICE int channels_at() const { return totals_at() + sums * slice_channels; }
  /// Place of the groups' numbers, two each.
  [[nodiscard]] IP2P_HOST_DEVICE int groups_at() const { return channels_at() + sums * slice_channels; }
  /// Bytes before the pixels that are kept.
  [[nodiscard]] IP2P_HOST_DEVICE std::size_t tile_at() const {
    const int floats = groups_at() + 2 * slice_groups;
    return (static_cast<std::size_t>(floats) * sizeof(float) + vector_bytes - 1) / vector_bytes * vector_bytes;
  }
  /// Place of a block's sums in the workspace, in floats.
  [[nodiscard]] IP2P_HOST_DEVICE std::int64_t workspace_at(std::int64_t sample, int slice, int block) const {
    return ((sample * slices + slice) * blocks + block) * sums * slice_channels;
  }
  /// Floats of workspace between the two kernels; 0 for one.
  [[nodiscard]] std::int64_t workspace_floats() const {
    return whole ? 0 : shape.samples * slices * blocks * sums * slice_channels;
  }
};

/// Divides a map.
/// \param vectors whether all pointers are aligned to vectors  \param tiles maps that are kept in shared memory
/// \param sums numbers a channel that are summed over pixels
inline MapPlan plan_map(const MapShape& shape, Number number, bool vectors, const DeviceLimits& limits, int tiles,
                        int sums) {
  MapPlan plan;
  plan.shape = shape;
  plan.sums = sums;
  if (shape.samples < 1 || shape.samples > 65535 || shape.pixels < 1 || shape.channels < 1 || shape.groups < 1 ||
      shape.channels % shape.groups != 0 || shape.channels / shape.groups > map_threads) {
    return plan;
  }
  const int bytes = bytes_of(number);
  const auto groups = static_cast<int>(std::min<std::int64_t>(shape.groups, 1 << 24));
  plan.group_channels = static_cast<int>(shape.channels / shape.groups);
  constexpr int most_groups = map_threads / warp_size;
  const int length = vector_bytes / bytes;
  plan.slice_groups = 1;
  if (vectors) {
    for (int k = 1; k <= most_groups && plan.vector == 1; ++k) {
      if (groups % k == 0 && k * plan.group_channels % length == 0) {
        plan.vector = length;
        plan.slice_groups = k;
      }
    }
  }
  // Neighbours in memory belong to one block as far as two sectors of the cache go.
  constexpr int enough_bytes = 64;
  while (plan.slice_groups * 2 <= most_groups && groups % (plan.slice_groups * 2) == 0 &&
         plan.slice_groups * plan.group_channels * bytes < enough_bytes &&
         plan.slice_groups * 2 * plan.group_channels / plan.vector <= map_threads) {
    plan.slice_groups *= 2;
  }
  plan.slice_channels = plan.slice_groups * plan.group_channels;
  if (shape.groups / plan.slice_groups > 65535) return plan;
  plan.slices = groups / plan.slice_groups;
  plan.row_vectors = plan.slice_channels / plan.vector;
  plan.rows = map_threads / plan.row_vectors;
  plan.possible = true;

  const std::int64_t pairs = shape.samples * plan.slices;
  const auto tile_bytes = [&](int blocks) {
    return static_cast<std::size_t>(divide_up(shape.pixels, blocks)) * static_cast<std::size_t>(plan.slice_channels) *
           static_cast<std::size_t>(bytes * tiles);
  };
  // The smallest cluster whose blocks leave room for others beside them on a multiprocessor and fill the device.
  constexpr std::size_t small_tile = 24 << 10;
  const int largest = limits.compute_major >= 9 ? 8 : 1;
  int cluster = 1;
  while (cluster < largest &&
         (tile_bytes(cluster) > small_tile ||
          (pairs * cluster < limits.multiprocessors && divide_up(shape.pixels, cluster) > 4 * plan.rows))) {
    cluster *= 2;
  }
  // Odd sizes take the kernels that every map can take.
  plan.whole = plan.vector > 1 && plan.tile_at() + tile_bytes(cluster) <= limits.shared_bytes;
  if (plan.whole) {
    plan.blocks = cluster;
    plan.shared_bytes = plan.tile_at() + tile_bytes(cluster);
  } else {
    const auto wanted = divide_up(4 * static_cast<std::int64_t>(limits.multiprocessors), pairs);
    const auto useful = divide_up(shape.pixels, 8 * plan.rows);
    plan.blocks = static_cast<int>(std::clamp<std::int64_t>(std::min(wanted, useful), 1, 64));
    plan.shared_bytes = plan.tile_at();
  }
  plan.block_pixels = divide_up(shape.pixels, plan.blocks);
  return plan;
}

/// A thread's vector of channels in its block's pixels.
struct MapLane {
  int row, column;           ///< Of the block's pixels and of the slice's vectors.
  int channel;               ///< First of the slice's channels that are this thread's.
  std::int64_t first, last;  ///< The block's pixels.
  std::int64_t offset;       ///< Of pixel 0's vector in the map, in elements.

  /// Of a thread of a kernel over `plan`; a row that is not below `plan.rows` has nothing to do.
  IP2P_HOST_DEVICE MapLane(const MapPlan& plan, const Place& place)
      : row(place.thread / plan.row_vectors),
        column(place.thread % plan.row_vectors),
        channel(column * plan.vector),
        first(place.x * plan.block_pixels),
        last(first + plan.block_pixels < plan.shape.pixels ? first + plan.block_pixels : plan.shape.pixels),
        offset(place.z * plan.shape.pixels * plan.shape.channels +
               static_cast<std::int64_t>(place.y) * plan.slice_channels + channel) {}
};

/// Adds up each channel's sums over the rows of a block; to the workspace or for the cluster.
template <MapPass pass>
IP2P_HOST_DEVICE void total_rows(const MapPlan& plan, const Place& place, const SharedMemory& memory,
                                 float* workspace) {
  auto* shared = reinterpret_cast<float*>(memory.own);
  float* to =
      pass == MapPass::sums ? workspace + plan.workspace_at(place.z, place.y, place.x) : shared + plan.totals_at();
  for (int i = place.thread; i < plan.sums * plan.slice_channels; i += map_threads) {
    const int which = i / plan.slice_channels;
    const float* from = shared + which * plan.rows * plan.slice_channels + i % plan.slice_channels;
    float sum = 0.0f;
    for (int row = 0; row < plan.rows; ++row) sum += from[row * plan.slice_channels];
    to[i] = sum;
  }
}

/// Sum i (number of the sum * slice_channels + channel) over all blocks of a (sample, slice), in their order.
template <MapPass pass>
IP2P_HOST_DEVICE float total_blocks(const MapPlan& plan, const Place& place, const SharedMemory& memory,
                                    const float* workspace, int i) {
  float sum = 0.0f;
  for (int block = 0; block < plan.blocks; ++block) {
    sum += pass == MapPass::apply ? workspace[plan.workspace_at(place.z, place.y, block) + i]
                                  : reinterpret_cast<const float*>(memory.of(block))[plan.totals_at() + i];
  }
  return sum;
}

}  // namespace ip2p::kernels
