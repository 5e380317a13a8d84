#pragma once

/// \file
/// The definitions behind resample.hpp.

#include <ip2p/core/definitions.hpp>
#include <ip2p/core/error.hpp>
#include <ip2p/io/image_types.hpp>
#include <ip2p/io/resample.hpp>
#include <ip2p/io/resample_passes.hpp>

#include <ATen/Parallel.h>
#include <c10/util/FunctionRef.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <optional>
#include <thread>
#include <vector>

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

inline double filter_support(Filter filter) {
  switch (filter) {
    case Filter::box:
      return 0.5;
    case Filter::bilinear:
    case Filter::hamming:
      return 1.0;
    case Filter::bicubic:
      return 2.0;
    case Filter::lanczos:
      return 3.0;
  }
  throw_error("filter: expected a value of ip2p::Filter, got {}", static_cast<int>(filter));
}

inline double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

inline double filter_value(Filter filter, double x) {
  if (filter == Filter::box) return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
  if (filter == Filter::lanczos) return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
  x = std::abs(x);
  if (filter == Filter::bilinear) return x < 1.0 ? 1.0 - x : 0.0;
  if (filter == Filter::hamming) {
    if (x == 0.0) return 1.0;
    return x < 1.0 ? sinc(x) * (0.54 + 0.46 * std::cos(x * std::numbers::pi)) : 0.0;
  }
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// The taps along one axis of `in_size` pixels, for resampling [low, high) to `out_size` pixels.
inline Taps filter_taps(std::int64_t in_size, float low, float high, std::int64_t out_size, Filter filter) {
  const float extent = high - low;  // in single precision, as in Pillow
  const double scale = static_cast<double>(extent) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0);
  // volatile: fusing these products with the sums below would change the rounding of borders that fall on a tie.
  const volatile double support = filter_support(filter) * filter_scale;
  Taps taps;
  taps.ranges.resize(static_cast<std::size_t>(out_size));
  const std::size_t most_taps = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  taps.pairs_each = (most_taps + 1) / 2;
  taps.pairs.resize(taps.ranges.size() * taps.pairs_each);
  std::vector<double> exact(most_taps);
  for (std::int64_t position = 0; position < out_size; ++position) {
    const volatile double offset = (static_cast<double>(position) + 0.5) * scale;
    const double center = low + offset;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const auto end = std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), in_size);
    const auto count = static_cast<std::size_t>(std::max<std::int64_t>(end - first, 0));
    double total = 0;
    for (std::size_t t = 0; t < count; ++t) {
      exact[t] = filter_value(
          filter, (static_cast<double>(first + static_cast<std::int64_t>(t)) - center + 0.5) * (1.0 / filter_scale));
      total += exact[t];
    }
    TapPair* pairs = taps.pairs.data() + static_cast<std::size_t>(position) * taps.pairs_each;
    for (std::size_t t = 0; t < count; ++t) {
      const double weight = total != 0.0 ? exact[t] / total : exact[t];
      const double scaled = weight * (1 << weight_bits);
      pairs[t / 2].set(t % 2, static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
    taps.ranges[static_cast<std::size_t>(position)] = {static_cast<std::int32_t>(first),
                                                       static_cast<std::int32_t>(count)};
  }
  return taps;
}

/// Calls `work(begin, end)` over parts of [0, count) on up to torch's number of threads. Jobs below 2^24
/// multiplications run on the calling thread, because starting threads would take longer than it saves. `work` must not
/// throw. \param cost total number of multiplications
inline void in_parallel(std::size_t count, double cost, c10::function_ref<void(std::size_t, std::size_t)> work) {
  constexpr double worth_a_thread = 1 << 23;
  const auto threads = std::min({static_cast<std::size_t>(std::max(at::get_num_threads(), 1)),
                                 static_cast<std::size_t>(cost / worth_a_thread), count / block_bytes});
  if (threads < 2 || at::in_parallel_region()) return work(std::size_t{0}, count);
  const std::size_t part = ((count + threads - 1) / threads + block_bytes - 1) / block_bytes * block_bytes;
  std::vector<std::jthread> others;
  for (std::size_t begin = part; begin < count; begin += part) {
    others.emplace_back([&work, begin, end = std::min(begin + part, count)] { work(begin, end); });
  }
  work(std::size_t{0}, std::min(part, count));
}

/// Rows [first_row, end_row) of `image`, blended along x.
inline Image blend_along_x(const Image& image, const Taps& taps, std::int64_t first_row, std::int64_t end_row) {
  Image blended = blank_image(taps.ranges.size(), static_cast<std::uint64_t>(end_row - first_row));
  const double cost = static_cast<double>(blended.pixels.size()) * static_cast<double>(2 * taps.pairs_each);
  in_parallel(static_cast<std::size_t>(blended.height), cost, [&](std::size_t begin, std::size_t end) {
    blend_rows(image.pixels.data() + first_row * image.width * 3, static_cast<std::size_t>(image.width), taps,
               blended.pixels.data(), begin, end);
  });
  return blended;
}

/// `image` blended along y. \param first_row number of its first row in the picture that `taps` refers to
inline Image blend_along_y(const Image& image, const Taps& taps, std::int32_t first_row) {
  Image blended = blank_image(static_cast<std::uint64_t>(image.width), taps.ranges.size());
  const double cost = static_cast<double>(blended.pixels.size()) * static_cast<double>(2 * taps.pairs_each);
  in_parallel(static_cast<std::size_t>(blended.height), cost, [&](std::size_t begin, std::size_t end) {
    blend_columns(image.pixels.data(), static_cast<std::size_t>(image.width) * 3, first_row, taps,
                  blended.pixels.data(), begin, end);
  });
  return blended;
}

}  // namespace detail

IP2P_INLINE Image resize(const Image& image, std::int64_t width, std::int64_t height, Filter filter,
                         std::optional<Box> box, PassOrder order) {
  require_consistent(image, "image to resize");
  constexpr std::int64_t largest_side = 1 << 20;
  require(width >= 1 && height >= 1 && width <= largest_side && height <= largest_side,
          "resize: expected a size of 1x1 to {0}x{0}, got {1}x{2}", largest_side, width, height);
  const auto in_width = static_cast<float>(image.width), in_height = static_cast<float>(image.height);
  const Box region = box.value_or(Box{0, 0, in_width, in_height});
  require(region.left >= 0 && region.top >= 0 && region.right <= in_width && region.bottom <= in_height &&
              region.left < region.right && region.top < region.bottom,
          "resize: expected a box inside {}x{}, got ({:g}, {:g}, {:g}, {:g})", image.width, image.height, region.left,
          region.top, region.right, region.bottom);
  const bool along_x = width != image.width || region.left != 0 || region.right != static_cast<float>(width);
  const bool along_y = height != image.height || region.top != 0 || region.bottom != static_cast<float>(height);
  if (!along_x && !along_y) return image;

  const detail::Taps taps_x =
      along_x ? detail::filter_taps(image.width, region.left, region.right, width, filter) : detail::Taps{};
  const detail::Taps taps_y =
      along_y ? detail::filter_taps(image.height, region.top, region.bottom, height, filter) : detail::Taps{};
  const std::int64_t lost_rows = image.height - height, lost_columns = image.width - width;
  if (order == PassOrder::adaptive && along_y && lost_rows > 0 && lost_rows > 2 * lost_columns) {
    Image flattened = detail::blend_along_y(image, taps_y, 0);
    return along_x ? detail::blend_along_x(flattened, taps_x, 0, height) : flattened;
  }
  if (!along_x) return detail::blend_along_y(image, taps_y, 0);
  if (!along_y) return detail::blend_along_x(image, taps_x, 0, height);
  // The pass along x skips rows that the pass along y will not read.
  const std::int32_t first_row = taps_y.ranges.front().first;
  const std::int32_t end_row = taps_y.ranges.back().first + taps_y.ranges.back().count;
  return detail::blend_along_y(detail::blend_along_x(image, taps_x, first_row, end_row), taps_y, first_row);
}

IP2P_INLINE Box fit_box(Size picture, Size target) {
  require(picture.width >= 1 && picture.height >= 1 && target.width >= 1 && target.height >= 1,
          "fit: expected a positive size, got {}x{} for a picture of {}x{}", target.width, target.height, picture.width,
          picture.height);
  const auto in_width = static_cast<double>(picture.width), in_height = static_cast<double>(picture.height);
  const double in_ratio = in_width / in_height;
  const double out_ratio = static_cast<double>(target.width) / static_cast<double>(target.height);
  double crop_width = in_width, crop_height = in_height;
  if (in_ratio > out_ratio) crop_width = out_ratio * in_height;
  if (in_ratio < out_ratio) crop_height = in_width / out_ratio;
  const volatile double left = (in_width - crop_width) * 0.5, top = (in_height - crop_height) * 0.5;
  return {static_cast<float>(left), static_cast<float>(top), static_cast<float>(left + crop_width),
          static_cast<float>(top + crop_height)};
}

IP2P_INLINE Image fit(const Image& image, std::int64_t width, std::int64_t height, Filter filter, PassOrder order) {
  require_consistent(image, "image to fit");
  return resize(image, width, height, filter, fit_box({image.width, image.height}, {width, height}), order);
}

IP2P_INLINE Size released_size(std::int64_t width, std::int64_t height, std::int64_t resolution) {
  require(width >= 1 && height >= 1 && resolution >= 1,
          "released size: expected a positive size and resolution, got {}x{} and {}", width, height, resolution);
  const auto shorter = static_cast<double>(std::min(width, height));
  double factor = static_cast<double>(resolution) / static_cast<double>(std::max(width, height));
  factor = std::ceil(shorter * factor / 64) * 64 / shorter;
  const auto side = [factor](std::int64_t length) {
    return std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(length) * factor / 64) * 64, 64);
  };
  return {side(width), side(height)};
}

}  // namespace ip2p
#endif
