#pragma once

/// \file
/// Where the published programs differ: how photographs become tensors, and tensors pictures.

#include <ATen/ops/clamp.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/out_of_memory.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"

namespace ip2p {

/// Which published program to match where the two differ.
enum class Numerics {
  released,  ///< The authors' `edit_cli.py`: its size rule, pixels truncated to 8 bits, log-linear noise levels.
  diffusers  ///< diffusers' pipelines: sides rounded down to multiples of 8, pixels rounded, noise levels linear in
             ///< sigma.
};

/// How colour values are rounded to 8 bits.
enum class Rounding {
  truncate,  ///< Towards zero, as the released program does.
  nearest    ///< As diffusers does.
};

/// The rounding of the program that `numerics` names.
constexpr Rounding rounding_of(Numerics numerics) {
  return numerics == Numerics::released ? Rounding::truncate : Rounding::nearest;
}

/// One seed per picture: `seeds` unchanged, or `seed`, `seed` + 1, ... if it is empty.
/// \throws Error when the number of seeds differs from the number of pictures
inline std::vector<std::uint64_t> seeds_for(std::size_t pictures, std::uint64_t seed,
                                            const std::vector<std::uint64_t>& seeds) {
  require(seeds.empty() || seeds.size() == pictures, "seeds: expected {} (one per picture), found {}", pictures,
          seeds.size());
  if (!seeds.empty()) return seeds;
  std::vector<std::uint64_t> counted;
  for (std::size_t i = 0; i < pictures; ++i) counted.push_back(seed + i);
  return counted;
}

/// Pictures [B,3,H,W] in [-1,1] from images of one size. \throws Error for none or sizes that differ
inline at::Tensor images_to_tensor(std::span<const Image> images) {
  require(!images.empty(), "pictures: expected at least one, found none");
  std::vector<at::Tensor> tensors;
  for (const auto& image : images) {
    require(image.width == images[0].width && image.height == images[0].height,
            "pictures: expected one size, found {}x{} and {}x{}", images[0].width, images[0].height, image.width,
            image.height);
    tensors.push_back(to_tensor(image));
  }
  return at::stack(tensors).to(at::kFloat).mul_(2).div_(255).sub_(1);
}

/// Images from pictures [B,3,H,W] in [-1,1]; values outside are clamped.
inline std::vector<Image> tensor_to_images(const at::Tensor& pictures, Rounding rounding) {
  auto pixels = pictures.detach().to(at::kCPU, at::kFloat).add(1).div_(2).clamp_(0, 1).mul_(255);
  if (rounding == Rounding::nearest) pixels = pixels.round_();
  std::vector<Image> images;
  for (const auto& picture : pixels.to(at::kByte).unbind(0)) images.push_back(from_tensor(picture.contiguous()));
  return images;
}

/// Size at which a picture is edited.
/// \param resolution long side in pixels; unset: 512 for `released`, the picture's own size for `diffusers`
/// \throws Error for a resolution below 64 or above 16384
inline Size edit_size(std::int64_t width, std::int64_t height, std::optional<std::int64_t> resolution,
                      Numerics numerics) {
  const auto wanted = resolution.value_or(512);
  require(wanted >= 64 && wanted <= 16384, "resolution: expected 64 to 16384 pixels, found {}", wanted);
  if (numerics == Numerics::released) return released_size(width, height, wanted);
  const double factor = resolution ? static_cast<double>(wanted) / static_cast<double>(std::max(width, height)) : 1.0;
  const auto side = [factor](std::int64_t length) {
    return std::max<std::int64_t>(8, static_cast<std::int64_t>(static_cast<double>(length) * factor + 1e-9) / 8 * 8);
  };
  return {side(width), side(height)};
}

/// Prepares photographs as the chosen program does: resized and, for `released`, centre-cropped.
/// \return [B,3,H,W], fp32 in [-1,1]  \throws Error unless all end up with the same size
inline at::Tensor prepare_photos(std::span<const Image> photos, std::optional<std::int64_t> resolution,
                                 Numerics numerics) {
  std::vector<Image> fitted;
  for (const auto& photo : photos) {
    const auto size = edit_size(photo.width, photo.height, resolution, numerics);
    fitted.push_back(numerics == Numerics::released
                         ? fit(photo, size.width, size.height, Filter::lanczos, PassOrder::horizontal_first)
                         : resize(photo, size.width, size.height, Filter::lanczos));
  }
  return images_to_tensor(fitted);
}

/// Runs `body`; a failed allocation becomes an `OutOfMemory` that says what to do.
template <class Body>
decltype(auto) with_memory_advice(Body&& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
    throw OutOfMemory(
        "out of memory: use a smaller resolution, a 16-bit dtype, fewer pictures at once, or "
        "models that are loaded on demand and a codec that works tile by tile (low_memory)");
  }
}

}  // namespace ip2p
