#pragma once

/// \file
/// Folders of photographs: the fixed split into training and held-out pictures, and random crops.

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/flip.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/image.hpp"

namespace small_editor {

/// Paths of photographs, whole pictures on one side or the other.
struct PhotographSplit {
  std::vector<std::filesystem::path> training, held_out;  ///< Both in the order of the hash of their names.
};

/// Sorts the pictures (.jpg, .jpeg, .png, .webp) of `folder` by a hash (FNV-1a) of their file name and holds out every
/// `every`-th, so that the split does not depend on where the folder lies and hardly changes when pictures are added.
/// \throws Error when the folder holds no pictures
inline PhotographSplit split_photographs(const std::filesystem::path& folder, std::size_t every = 5) {
  ip2p::require(std::filesystem::is_directory(folder), "photographs: '{}' is not a folder", folder.string());
  ip2p::require(every >= 2, "photographs: expected to hold out every 2nd or fewer, found every {}", every);
  std::vector<std::pair<std::uint64_t, std::filesystem::path>> found;
  for (const auto& entry : ip2p::detail::folder_entries(folder)) {
    const auto extension = ip2p::detail::lower_ascii(entry.path().extension().string());
    if (extension != ".jpg" && extension != ".jpeg" && extension != ".png" && extension != ".webp") continue;
    found.emplace_back(ip2p::detail::fnv(entry.path().filename().string()), entry.path());
  }
  ip2p::require(!found.empty(), "photographs: no .jpg, .jpeg, .png or .webp in '{}'", folder.string());
  std::sort(found.begin(), found.end());
  PhotographSplit split;
  for (std::size_t i = 0; i < found.size(); ++i) {
    (i % every == 0 ? split.held_out : split.training).push_back(found[i].second);
  }
  return split;
}

/// Resizes with an antialiased bicubic filter. \param image float [C,H,W]  \return float [C,height,width]
inline at::Tensor resize_bicubic(const at::Tensor& image, std::int64_t height, std::int64_t width) {
  if (image.size(1) == height && image.size(2) == width) return image;
  return at::_upsample_bicubic2d_aa(image.unsqueeze(0), at::IntArrayRef{height, width}, false).squeeze(0);
}

/// Reads a photograph, made smaller where its short side exceeds `short_side`. \return uint8 [3,H,W]
inline at::Tensor load_photograph(const std::filesystem::path& path, std::int64_t short_side) {
  auto photo = ip2p::to_tensor(ip2p::read_image(path));
  const auto shortest = std::min(photo.size(1), photo.size(2));
  if (shortest <= short_side) return photo;
  const double scale = static_cast<double>(short_side) / static_cast<double>(shortest);
  const auto height =
      std::max(short_side, static_cast<std::int64_t>(std::lround(static_cast<double>(photo.size(1)) * scale)));
  const auto width =
      std::max(short_side, static_cast<std::int64_t>(std::lround(static_cast<double>(photo.size(2)) * scale)));
  return resize_bicubic(photo.to(at::kFloat), height, width).round_().clamp_(0, 255).to(at::kByte);
}

/// The largest centred square, resized. \param photo uint8 [3,H,W]  \return float [3,side,side] in [0,1]
inline at::Tensor centre_square(const at::Tensor& photo, std::int64_t side) {
  const auto window = std::min(photo.size(1), photo.size(2));
  const auto square =
      photo.narrow(1, (photo.size(1) - window) / 2, window).narrow(2, (photo.size(2) - window) / 2, window);
  return (resize_bicubic(square.to(at::kFloat), side, side) / 255.0).clamp_(0, 1);
}

/// A random square at a random scale, mirrored half of the time.
///
/// The shrinking factor is uniform between 1 and that at which the photograph's short side becomes `picture` pixels, so
/// that crops show detail as coarse as in a whole photograph of that size and as fine as in its original pixels.
/// \param photo uint8 [3,H,W]  \param side of the crop in pixels  \param picture side of the pictures to be edited
/// \return float [3,side,side] in [0,1]
inline at::Tensor random_crop(const at::Tensor& photo, std::int64_t side, std::int64_t picture,
                              ip2p::SampleRandom& random) {
  const auto shortest = std::min(photo.size(1), photo.size(2));
  const double largest = std::max(1.0, static_cast<double>(shortest) / static_cast<double>(std::max(side, picture)));
  const double scale = random.uniform(1.0, largest);
  const auto window = std::min(shortest, static_cast<std::int64_t>(std::lround(static_cast<double>(side) * scale)));
  const auto top = random.below(photo.size(1) - window + 1);
  const auto left = random.below(photo.size(2) - window + 1);
  auto crop = photo.narrow(1, top, window).narrow(2, left, window).to(at::kFloat);
  crop = (resize_bicubic(crop, side, side) / 255.0).clamp_(0, 1);
  return random.uniform() < 0.5 ? at::flip(crop, {2}) : crop;
}

}  // namespace small_editor
