#pragma once

/// \file
/// The laws of `UpsamplingPolicy`.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/testing/law.hpp"
#include "ip2p/upsampling/concepts.hpp"

namespace ip2p::testing {

/// A picture of smooth colours with fine detail, values 24 to 231, the same for the same seed.
inline Image made_picture(std::int64_t width, std::int64_t height, std::uint64_t seed = 0) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  std::uint64_t state = seed * 2 + 1;
  for (std::int64_t i = 0; i < width * height * 3; ++i) {
    const auto x = static_cast<double>(i / 3 % width) / static_cast<double>(width);
    const auto y = static_cast<double>(i / 3 / width) / static_cast<double>(height);
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const double phase = static_cast<double>(i % 3 * 2 + static_cast<std::int64_t>(seed % 7));
    const double smooth = 80 * std::sin(5 * x + phase) * std::cos(4 * y - phase);
    image.pixels[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(std::lround(128 + smooth + static_cast<double>(state >> 59) - 16));
  }
  return image;
}

/// The largest difference of two pictures' values, or a text of their sizes if these differ.
inline std::pair<int, std::string> picture_difference(const Image& found, const Image& expected) {
  if (found.width != expected.width || found.height != expected.height || found.pixels.size() != expected.pixels.size())
    return {256,
            fmt::format("expected {}x{}, found {}x{}", expected.width, expected.height, found.width, found.height)};
  int largest = 0;
  std::size_t place = 0;
  for (std::size_t i = 0; i < found.pixels.size(); ++i) {
    const int apart = std::abs(static_cast<int>(found.pixels[i]) - static_cast<int>(expected.pixels[i]));
    if (apart > largest) largest = apart, place = i;
  }
  const auto pixel = static_cast<std::int64_t>(place / 3);
  return {largest, fmt::format("expected {}, found {} at ({}, {})", expected.pixels[place], found.pixels[place],
                               pixel % found.width, pixel / found.width)};
}

/// Throws `Error` naming the first law of `UpsamplingPolicy` that `upsampling` breaks, over generated photographs of
/// many sizes. Changes the number of LibTorch's threads while it runs.
template <class Upsampling>
void check_upsampling(const Upsampling& upsampling) {
  require_upsampling_policy<Upsampling>();
  constexpr auto role = "UpsamplingPolicy";
  struct Case {
    Size photo, model;
    Box seen;
  };
  const auto whole = [](Size photo, Size model) {
    return Case{photo, model, {0, 0, static_cast<float>(photo.width), static_cast<float>(photo.height)}};
  };
  const std::vector<Case> cases{
      whole({150, 100}, {48, 32}),                            // a photograph larger than the model's pictures
      {{151, 99}, {32, 32}, {26.F, 0.F, 125.F, 99.F}},        // of which the model saw the middle
      {{97, 160}, {24, 24}, {0.5F, 31.25F, 96.5F, 127.25F}},  // between pixels
      whole({20, 12}, {40, 24}),                              // smaller
      whole({48, 32}, {48, 32}),                              // as large
      whole({1, 70}, {8, 64}),
      whole({70, 1}, {64, 8}),  // one pixel wide and high
      whole({1, 1}, {8, 8}),
      whole({33, 40}, {1, 1}),
  };
  const auto same = [](const Image& found, const Image& expected, std::string_view law, const std::string& where) {
    const auto [apart, text] = picture_difference(found, expected);
    expect_law(apart == 0, role, law, "{}: {}", where, text);
  };
  const int threads = at::get_num_threads();
  struct Restore {
    int threads;
    ~Restore() { at::set_num_threads(threads); }
  } restore{threads};
  std::uint64_t seed = 0;
  for (const auto& [size, model, seen] : cases) {
    const auto where =
        fmt::format("photograph of {}x{}, edited at {}x{}", size.width, size.height, model.width, model.height);
    const auto photo = made_picture(size.width, size.height, ++seed);
    const ModelEdit edit{resize(photo, model.width, model.height, Filter::bicubic, seen),
                         made_picture(model.width, model.height, seed + 100), seen};
    const auto expected_size = enlarges<Upsampling>() ? size : model;
    at::set_num_threads(1);
    const Image result = upsampling(photo, edit);
    expect_law(result.width == expected_size.width && result.height == expected_size.height &&
                   result.pixels.size() == static_cast<std::size_t>(result.width * result.height * 3),
               role, "the result has the photograph's size, unless the policy says otherwise",
               "{}: expected {}x{}, found {}x{} of {} bytes", where, expected_size.width, expected_size.height,
               result.width, result.height, result.pixels.size());
    if (!enlarges<Upsampling>())
      same(result, edit.after, "a policy that does not enlarge gives the edit as it is", where);
    const Upsampling copy(upsampling);
    for (const int count : {1, 2, 3}) {
      at::set_num_threads(count);
      same(copy(photo, edit), result, "equal arguments give identical bits, in any number of threads",
           fmt::format("{}, {} threads", where, count));
    }
    auto changed = edit;
    if (!reads_before<Upsampling>()) {
      changed.before = made_picture(model.width, model.height, seed + 200);
      same(upsampling(photo, changed), result, "a picture that is not read has no effect", where);
      continue;
    }
    changed.after = changed.before;
    same(upsampling(photo, changed), photo, "an edit that changes nothing leaves the photograph, bit for bit", where);
    auto shifted = photo;
    const int shift[3] = {20, -13, 7};
    const auto move = [&](Image& image) {
      for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        image.pixels[i] = static_cast<std::uint8_t>(image.pixels[i] + shift[i % 3]);
      }
    };
    // Resampling may have gone beyond the photograph's values.
    for (auto& value : changed.before.pixels) value = std::clamp<std::uint8_t>(value, 20, 235);
    changed.after = changed.before;
    move(changed.after);
    move(shifted);
    const auto [apart, text] = picture_difference(upsampling(photo, changed), shifted);
    expect_law(apart <= 1, role, "a change by one colour is carried to the whole photograph", "{}: {}", where, text);
  }
}

}  // namespace ip2p::testing
