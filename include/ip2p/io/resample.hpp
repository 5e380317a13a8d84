#pragma once

/// \file
/// Resampling that matches Pillow's 8-bit results bit for bit, and the size rule of the released editing code.
///
/// Pillow computes weights in double, rounds them to 22-bit fixed point, and blends along x and y, rounding to 8 bits
/// after each pass. This code does the same, so a model sees the same pixels whichever program resized the picture.

#include <ip2p/io/image_types.hpp>

#include <cstdint>
#include <optional>

namespace ip2p {

/// Resampling filters, named as in Pillow. When shrinking, each is widened by the scale factor (antialiasing).
enum class Filter {
  box,       ///< support 0.5
  bilinear,  ///< triangle, support 1
  hamming,   ///< support 1
  bicubic,   ///< Catmull-Rom (a = -0.5), support 2
  lanczos,   ///< windowed sinc, support 3
};

/// Which axis is resampled first. The order affects the result slightly, because the first pass rounds to 8 bits.
enum class PassOrder {
  adaptive,          ///< Pillow 13: y first if resizing removes more than twice as many rows as columns, else x first.
  horizontal_first,  ///< Pillow up to 12, which the released code used: always x first.
};

/// Width and height in pixels.
struct Size {
  std::int64_t width = 0;  ///< Columns.
  std::int64_t height = 0;

  friend bool operator==(const Size&, const Size&) = default;
};

/// A region of a picture in pixels; corners may lie between pixels. Single precision, as in Pillow.
struct Box {
  float left = 0, top = 0, right = 0, bottom = 0;  ///< Edges, counted from the top left corner of the picture.
};

/// `image`, or its region `box`, resampled to `width` x `height`. Bit-identical to PIL's
/// `image.resize((width, height), filter, box)` on an RGB picture, for the Pillow version that `order` selects. Throws
/// `Error` for an inconsistent image, a size below 1 or above 2^20, and a box that is empty or not inside the picture.
[[nodiscard]] Image resize(const Image& image, std::int64_t width, std::int64_t height, Filter filter,
                           std::optional<Box> box = std::nullopt, PassOrder order = PassOrder::adaptive);

/// The part of a picture that `fit` resamples: the largest of the aspect ratio of `target` around the picture's centre,
/// as PIL's `ImageOps.fit`. Throws `Error` unless all sides are positive.
[[nodiscard]] Box fit_box(Size picture, Size target);

/// `image` cropped around its centre to the aspect ratio of `width` x `height` and resampled to that size, as PIL's
/// `ImageOps.fit(image, (width, height), filter)`. Throws `Error` as `resize` does.
[[nodiscard]] Image fit(const Image& image, std::int64_t width, std::int64_t height, Filter filter,
                        PassOrder order = PassOrder::adaptive);

/// The size at which the released code edits a picture of `width` x `height`: multiples of 64, the longer side about
/// `resolution`. Computed in double with the same order of operations, so rounding quirks are reproduced (a 98 x 98
/// picture is edited at 448 x 448). A side that would come out as 0 becomes 64. Throws `Error` unless all three are
/// positive. Source: edit_cli.py of InstructPix2Pix.
[[nodiscard]] Size released_size(std::int64_t width, std::int64_t height, std::int64_t resolution);

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include <ip2p/io/resample_definitions.hpp>
#endif
