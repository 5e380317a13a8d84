#pragma once

/// \file
/// The definitions behind bilateral_guided_upsampling.hpp.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/upsampling/bilateral_grid.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "ip2p/upsampling/concepts.hpp"
#include "ip2p/upsampling/placement.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

IP2P_INLINE LearnedEdit BilateralGuidedUpsampling::learn(const Image& photo, const ModelEdit& edit) const {
  require_model_edit(photo, edit);
  require(cells >= 4 && tones >= 1 && regularisation > 0 && doubt_from >= 0 && doubt_to > doubt_from,
          "BilateralGuidedUpsampling: expected cells >= 4, tones >= 1, a regularisation above 0 and "
          "0 <= doubt_from < doubt_to, found {}, {}, {}, {} and {}",
          cells, tones, regularisation, doubt_from, doubt_to);
  auto after_image = detail::no_larger_than_seen(edit.after, edit.seen);
  const auto width = after_image.width, height = after_image.height;
  const auto before = detail::unit_values(resize(edit.before, width, height, Filter::bicubic));
  const auto after = detail::unit_values(after_image);
  const auto exact = detail::unit_values(resize(photo, width, height, Filter::lanczos, edit.seen));
  std::vector<float> codec_error(before.size() / 3);
  for (std::size_t i = 0; i < codec_error.size(); ++i) codec_error[i] = square_error(exact, before, i);
  const auto radius = std::max<std::int64_t>(std::max(width, height) / 85, 1);
  smooth(codec_error, width, height, radius);

  const auto inside = inside_of(edit, width, height);
  auto weight = inside;
  auto maps = fit(before, after, weight, width, height);
  auto doubt = doubt_of(maps, before, after, codec_error, inside, width, height, radius);
  if (std::ranges::any_of(doubt, [](float value) { return value > 0; })) {
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] *= 1.0F - doubt[i];
    maps = fit(before, after, weight, width, height);
    doubt = doubt_of(maps, before, after, codec_error, inside, width, height, radius);
  }
  return {std::move(maps), std::move(doubt), std::move(after_image), edit.seen};
}

IP2P_INLINE Image BilateralGuidedUpsampling::apply(const Image& photo, const LearnedEdit& learned) {
  require_model_edit(photo, {{}, learned.after, learned.seen}, false);
  require(learned.doubt.size() * 3 == learned.after.pixels.size(),
          "LearnedEdit: doubt: expected a number for each of {}x{} pixels, found {}", learned.after.width,
          learned.after.height, learned.doubt.size());
  const auto low_width = learned.after.width, low_height = learned.after.height;
  const bool doubts = std::ranges::any_of(learned.doubt, [](float value) { return value > 0; });
  const auto after = doubts ? detail::unit_values(learned.after) : std::vector<float>{};
  const Placement across(learned.seen.left, learned.seen.right, low_width);
  const Placement down(learned.seen.top, learned.seen.bottom, low_height);
  std::vector<BilateralGrid::Column> columns;
  std::vector<Placement::Taps> smooth_taps, taps;
  std::vector<float> nearness;
  for (std::int64_t x = 0; x < photo.width; ++x) {
    columns.push_back(learned.maps.column(across.share(x)));
    if (!doubts) continue;
    smooth_taps.push_back(across.linear(x));
    taps.push_back(across.cubic(x));
    nearness.push_back(across.nearness(x));
  }
  Image result = detail::blank_image(static_cast<std::uint64_t>(photo.width), static_cast<std::uint64_t>(photo.height));
  detail::in_threads(photo.height, 16, [&](std::int64_t first, std::int64_t end) {
    std::vector<float> maps, doubt, enlarged;
    for (std::int64_t y = first; y < end; ++y) {
      learned.maps.interpolate_row(down.share(y), maps);
      if (doubts) {
        detail::row_between(learned.doubt, static_cast<std::size_t>(low_width), down.linear(y), doubt);
        for (float& value : doubt) value *= down.nearness(y);
        detail::row_between(after, static_cast<std::size_t>(low_width) * 3, down.cubic(y), enlarged);
      }
      const auto* in = photo.pixels.data() + y * photo.width * 3;
      auto* out = result.pixels.data() + y * photo.width * 3;
      for (std::size_t x = 0; x < columns.size(); ++x, in += 3, out += 3) {
        const float rgb[3] = {static_cast<float>(in[0]) / 255.0F, static_cast<float>(in[1]) / 255.0F,
                              static_cast<float>(in[2]) / 255.0F};
        float change[3];
        learned.maps.change(maps, columns[x], rgb, change);
        float share = 0;
        if (doubts) {
          const auto& near = smooth_taps[x];
          share = nearness[x] * (near.weight[0] * doubt[static_cast<std::size_t>(near.index[0])] +
                                 near.weight[1] * doubt[static_cast<std::size_t>(near.index[1])]);
        }
        for (std::size_t channel = 0; channel < 3; ++channel) {
          float value = rgb[channel] + change[channel];
          if (share > 0) {
            float drawn = 0;
            for (std::size_t k = 0; k < 4; ++k) {
              drawn += taps[x].weight[k] * enlarged[static_cast<std::size_t>(taps[x].index[k]) * 3 + channel];
            }
            value = std::clamp(value, 0.0F, 1.0F);
            value += share * (drawn - value);
          }
          out[channel] = detail::eight_bits(value);
        }
      }
    }
  });
  return result;
}

IP2P_INLINE std::vector<float> BilateralGuidedUpsampling::inside_of(const ModelEdit& edit, std::int64_t width,
                                                                    std::int64_t height) {
  std::vector<float> inside(static_cast<std::size_t>(width * height), 1.0F);
  if (edit.inside.pixels.empty()) return inside;
  const auto mask = resize(edit.inside, width, height, Filter::bicubic);
  for (std::size_t i = 0; i < inside.size(); ++i) {
    const auto* pixel = mask.pixels.data() + i * 3;
    inside[i] = 2 * (pixel[0] + pixel[1] + pixel[2]) > 3 * 255 ? 1.0F : 0.0F;
  }
  return inside;
}

IP2P_INLINE float BilateralGuidedUpsampling::square_error(std::span<const float> a, std::span<const float> b,
                                                          std::size_t pixel) {
  float sum = 0;
  for (std::size_t i = pixel * 3; i < pixel * 3 + 3; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum / 3;
}

IP2P_INLINE void BilateralGuidedUpsampling::smooth(std::vector<float>& values, std::int64_t width, std::int64_t height,
                                                   std::int64_t radius) {
  const auto along = [&](std::int64_t lines, std::int64_t count, std::int64_t line_step, std::int64_t step) {
    std::vector<double> sums(static_cast<std::size_t>(count) + 1);
    for (std::int64_t line = 0; line < lines; ++line) {
      float* start = values.data() + line * line_step;
      for (std::int64_t i = 0; i < count; ++i) {
        const auto place = static_cast<std::size_t>(i);
        sums[place + 1] = sums[place] + static_cast<double>(start[i * step]);
      }
      for (std::int64_t i = 0; i < count; ++i) {
        const auto first = std::max<std::int64_t>(i - radius, 0), end = std::min(i + radius + 1, count);
        start[i * step] =
            static_cast<float>((sums[static_cast<std::size_t>(end)] - sums[static_cast<std::size_t>(first)]) /
                               static_cast<double>(end - first));
      }
    }
  };
  along(height, width, width, 1);
  along(width, height, 1, width);
}

IP2P_INLINE BilateralGrid BilateralGuidedUpsampling::fit(std::span<const float> before, std::span<const float> after,
                                                         std::span<const float> weight, std::int64_t width,
                                                         std::int64_t height) const {
  std::vector<float> rest(before.size());
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = after[i] - before[i];
  const auto longer = static_cast<double>(std::max(width, height));
  const auto coarse_cells = [&](std::int64_t length) {
    return std::max<std::int64_t>(std::lround(static_cast<double>(length * cells) / (4 * longer)), 1);
  };
  const auto columns = coarse_cells(width), rows = coarse_cells(height);
  const GridFit passes[] = {
      {.regularisation = 1e-4, .summand = 1e-3, .smoothing = 0},
      {.columns = columns + 1, .rows = rows + 1, .tones = tones, .regularisation = 0.1 * regularisation},
      {.columns = 4 * columns + 1,
       .rows = 4 * rows + 1,
       .tones = tones,
       .regularisation = regularisation,
       .smoothing = 3}};
  BilateralGrid sum(passes[2].columns, passes[2].rows, tones);
  for (const auto& pass : passes) {
    const auto grid = fit_bilateral_grid(before, rest, weight, width, height, pass);
    sum.add(grid);
    if (&pass == &passes[2]) break;
    const auto explained = grid.changes(before, width, height);
    for (std::size_t i = 0; i < rest.size(); ++i) rest[i] -= explained[i];
  }
  return sum;
}

IP2P_INLINE std::vector<float> BilateralGuidedUpsampling::doubt_of(const BilateralGrid& maps,
                                                                   std::span<const float> before,
                                                                   std::span<const float> after,
                                                                   std::span<const float> codec_error,
                                                                   std::span<const float> inside, std::int64_t width,
                                                                   std::int64_t height, std::int64_t radius) const {
  constexpr float negligible = 4e-4F;  // the square of 5 of 255 levels
  auto given = maps.changes(before, width, height);
  for (std::size_t i = 0; i < given.size(); ++i) given[i] += before[i];
  std::vector<float> doubt(codec_error.size()), counted(inside.begin(), inside.end());
  for (std::size_t i = 0; i < doubt.size(); ++i) doubt[i] = inside[i] * square_error(given, after, i);
  smooth(doubt, width, height, radius);
  smooth(counted, width, height, radius);
  const auto from = static_cast<float>(doubt_from), to = static_cast<float>(doubt_to);
  for (std::size_t i = 0; i < doubt.size(); ++i) {
    const float error = counted[i] > 0 ? doubt[i] / counted[i] : 0.0F;
    const float t = std::clamp((error / (codec_error[i] + negligible) - from) / (to - from), 0.0F, 1.0F);
    doubt[i] = t * t * (3 - 2 * t);
  }
  smooth(doubt, width, height, radius);
  return doubt;
}

}  // namespace ip2p
#endif
