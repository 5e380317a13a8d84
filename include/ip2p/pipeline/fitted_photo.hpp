#pragma once

/// \file
/// Photographs brought to a size that a model edits: by cropping, padding or stretching.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/run_settings.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "ip2p/upsampling/concepts.hpp"

namespace ip2p {

/// What to do with a photograph whose proportions are not those of the size at which it is edited.
enum class Fit {
  crop,    ///< Show its middle in the proportions of that size, as the released program does.
  pad,     ///< Show all of it, and beside it its mirror image; `own_part` takes that off the result.
  stretch  ///< Show all of it in other proportions, as diffusers does with the few pixels to a multiple of 8.
};

/// The names of `Fit`, in its order.
inline constexpr std::array<std::string_view, 3> fit_names{"crop", "pad", "stretch"};

/// What `prepare_photos` does.
constexpr Fit fit_of(Numerics numerics) { return numerics == Numerics::released ? Fit::crop : Fit::stretch; }

/// How photographs are brought to the size at which they are edited.
struct FitRule {
  std::optional<std::int64_t> resolution = {};  ///< Long side in pixels; see `edit_size`.
  Numerics numerics = Numerics::released;       ///< Whose size rule applies.
  std::optional<Fit> fit = {};                  ///< Unset: `fit_of(numerics)`, with which nothing differs from
                                                ///< `prepare_photos`.
};

/// A photograph at the size at which it is edited.
struct FittedPhoto {
  Image image = {};     ///< What the model sees.
  Image mask = {};      ///< Where the photograph is to be edited, brought to the same size; empty without one.
  Size photo = {};      ///< Of the photograph as it was.
  Fit fit = Fit::crop;  ///< How it was brought to its size.
  Box seen = {};        ///< The part of the photograph that the model sees, in the photograph's pixels.
  std::int64_t left = 0, top = 0;  ///< Where that part lies in `image`.
  Size own = {};                   ///< The size of that part in `image`; all of it unless the photograph was padded.
  /// Under this resolution (in the settings of a run and in the pipeline's defaults), pipelines take `image` as it is.
  std::optional<std::int64_t> resolution = {};
};

namespace detail {

/// `inner` with its mirror image around it, `left` and `top` pixels of it on these sides, up to `size`.
inline Image mirrored_outwards(const Image& inner, std::int64_t left, std::int64_t top, Size size) {
  // The edge itself is not repeated: 2 1 [0 1 2] 1 0.
  const auto reflected = [](std::int64_t position, std::int64_t length) {
    if (length == 1) return std::int64_t{0};
    const auto period = 2 * (length - 1);
    const auto within = ((position % period) + period) % period;
    return std::min(within, period - within);
  };
  Image image = blank_image(static_cast<std::uint64_t>(size.width), static_cast<std::uint64_t>(size.height));
  auto* out = image.pixels.data();
  for (std::int64_t y = 0; y < size.height; ++y) {
    const auto row = reflected(y - top, inner.height) * inner.width;
    for (std::int64_t x = 0; x < size.width; ++x, out += 3) {
      std::memcpy(out, inner.pixels.data() + (row + reflected(x - left, inner.width)) * 3, 3);
    }
  }
  return image;
}

/// A part of a picture.
inline Image part_of(const Image& image, std::int64_t left, std::int64_t top, Size size) {
  if (size == Size{image.width, image.height}) return image;
  Image part = blank_image(static_cast<std::uint64_t>(size.width), static_cast<std::uint64_t>(size.height));
  for (std::int64_t y = 0; y < size.height; ++y) {
    std::copy_n(image.pixels.begin() + ((top + y) * image.width + left) * 3, size.width * 3,
                part.pixels.begin() + y * size.width * 3);
  }
  return part;
}

}  // namespace detail

/// Where in the size at which it is edited a photograph will lie, without its pixels. `image` stays empty.
/// \throws Error as `edit_size`
[[nodiscard]] inline FittedPhoto plan_fit(Size photo, const FitRule& rule) {
  const auto size = edit_size(photo.width, photo.height, rule.resolution, rule.numerics);
  FittedPhoto plan{.photo = photo,
                   .fit = rule.fit.value_or(fit_of(rule.numerics)),
                   .seen = {0, 0, static_cast<float>(photo.width), static_cast<float>(photo.height)},
                   .own = size};
  plan.image.width = size.width;
  plan.image.height = size.height;
  if (rule.numerics == Numerics::released) plan.resolution = std::max(size.width, size.height);
  if (plan.fit == Fit::crop) plan.seen = fit_box(photo, size);
  if (plan.fit == Fit::pad) {
    const double factor = std::min(static_cast<double>(size.width) / static_cast<double>(photo.width),
                                   static_cast<double>(size.height) / static_cast<double>(photo.height));
    const auto side = [factor](std::int64_t length, std::int64_t most) {
      return std::clamp<std::int64_t>(std::llround(static_cast<double>(length) * factor), 1, most);
    };
    plan.own = {side(photo.width, size.width), side(photo.height, size.height)};
    plan.left = (size.width - plan.own.width) / 2;
    plan.top = (size.height - plan.own.height) / 2;
  }
  return plan;
}

/// Brings a photograph to the size at which it is edited. \throws Error as `edit_size`, and for an inconsistent image
[[nodiscard]] inline FittedPhoto fit_photo(const Image& photo, const FitRule& rule) {
  auto fitted = plan_fit({photo.width, photo.height}, rule);
  const Size size{fitted.image.width, fitted.image.height};
  const auto order = rule.numerics == Numerics::released ? PassOrder::horizontal_first : PassOrder::adaptive;
  if (fitted.fit == Fit::crop) {
    fitted.image = fit(photo, size.width, size.height, Filter::lanczos, order);
  } else {
    fitted.image = resize(photo, fitted.own.width, fitted.own.height, Filter::lanczos, std::nullopt, order);
    if (fitted.own != size) fitted.image = detail::mirrored_outwards(fitted.image, fitted.left, fitted.top, size);
  }
  return fitted;
}

/// The same of a photograph of which only a part is edited. \param mask of the photograph's size, bright where to edit
/// \throws Error for a mask of another size
[[nodiscard]] inline FittedPhoto fit_photo(const Image& photo, const Image& mask, const FitRule& rule) {
  require(mask.width == photo.width && mask.height == photo.height,
          "mask: expected the photograph's size {}x{}, found {}x{}", photo.width, photo.height, mask.width,
          mask.height);
  auto fitted = fit_photo(photo, rule);
  fitted.mask = fit_photo(mask, rule).image;
  return fitted;
}

/// The part of an edited picture that the photograph has, without what padding added.
/// \throws Error for a picture of another size than `fitted.image`
[[nodiscard]] inline Image own_part(const FittedPhoto& fitted, const Image& edited) {
  require(edited.width == fitted.image.width && edited.height == fitted.image.height,
          "edited picture: expected {}x{}, found {}x{}", fitted.image.width, fitted.image.height, edited.width,
          edited.height);
  return detail::part_of(edited, fitted.left, fitted.top, fitted.own);
}

/// How a photograph is fitted, in words: "640x428 -> 256x192, 35 pixels cut left and right".
[[nodiscard]] inline std::string describe_fit(const FittedPhoto& fitted) {
  auto text =
      fmt::format("{}x{} -> {}x{}", fitted.photo.width, fitted.photo.height, fitted.image.width, fitted.image.height);
  const auto width = static_cast<double>(fitted.photo.width), height = static_cast<double>(fitted.photo.height);
  const auto pixels = [](std::int64_t count) { return fmt::format("{} pixel{}", count, count == 1 ? "" : "s"); };
  switch (fitted.fit) {
    case Fit::crop: {
      const auto columns = std::llround(fitted.seen.left), rows = std::llround(fitted.seen.top);
      if (columns > 0) text += fmt::format(", {} cut left and right", pixels(columns));
      if (rows > 0) text += fmt::format(", {} cut top and bottom", pixels(rows));
      break;
    }
    case Fit::pad:
      if (fitted.own != Size{fitted.image.width, fitted.image.height}) {
        text += fmt::format(", of which the photograph is {}x{}", fitted.own.width, fitted.own.height);
      }
      break;
    case Fit::stretch: {
      const double change =
          static_cast<double>(fitted.image.width) / static_cast<double>(fitted.image.height) / (width / height) - 1;
      const double shown = 100 * (change < 0 ? -change : 1 - 1 / (1 + change));
      if (shown >= 0.5) text += fmt::format(", {:.0f} % {}", shown, change < 0 ? "narrower" : "lower");
      break;
    }
  }
  return text;
}

namespace detail {

/// \throws Error unless `photo` has the size of the photograph that was fitted
inline void require_fitted(const Image& photo, const FittedPhoto& fitted) {
  require(photo.width == fitted.photo.width && photo.height == fitted.photo.height,
          "photograph: expected {}x{} pixels, as it was fitted with, found {}x{}", fitted.photo.width,
          fitted.photo.height, photo.width, photo.height);
}

/// An edit of `fitted.image` as one of the photograph: without what padding added.
inline ModelEdit edit_of_photo(const FittedPhoto& fitted, ModelEdit edit) {
  if (!edit.before.pixels.empty()) edit.before = own_part(fitted, edit.before);
  edit.after = own_part(fitted, edit.after);
  edit.seen = fitted.seen;
  return edit;
}

}  // namespace detail

/// A pipeline's pictures of a fitted photograph at the photograph's own size; as `at_full_size` of the photograph
/// itself, which this is for the fit of `prepare_photos`.
/// \param after what the pipeline made of `fitted.image` under `settings`, whose resolution is `fitted.resolution`
/// \throws Error as `model_edits`, and for a photograph of another size than the fitted one
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] std::vector<Image> at_full_size(const Pipeline& pipeline, const Image& photo, const FittedPhoto& fitted,
                                              std::span<const Image> after, const RunSettings& settings = {},
                                              const Upsampling& upsampling = {}) {
  detail::require_fitted(photo, fitted);
  std::vector<Image> enlarged;
  for (ModelEdit& edit : model_edits<Upsampling>(pipeline, fitted.image, after, settings)) {
    enlarged.push_back(upsampling(photo, detail::edit_of_photo(fitted, std::move(edit))));
  }
  return enlarged;
}

/// A masked edit of a fitted photograph at the photograph's own size; as `at_full_size` of photograph and mask
/// themselves, which this is for the fit of `prepare_photos`. Outside of the mask, the photograph stays bit for bit.
/// \param mask with which the photograph was fitted  \param after what the pipeline made of `fitted.image` and
/// `fitted.mask`  \throws Error as `model_edits`, for a photograph or a mask of another size, and for a photograph that
/// was fitted without a mask
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] Image at_full_size(const Pipeline& pipeline, const Image& photo, const Image& mask,
                                 const FittedPhoto& fitted, const Image& after, const RunSettings& settings = {},
                                 const Upsampling& upsampling = {}) {
  static_assert(enlarges<Upsampling>(),
                "ip2p: at_full_size with a mask needs an UpsamplingPolicy that enlarges; "
                "see docs/reference/concepts.md#upsamplingpolicy");
  detail::require_fitted(photo, fitted);
  require(!fitted.mask.pixels.empty(), "mask: expected a photograph that was fitted with one, found none");
  auto edit = detail::edit_of_photo(fitted, model_edit<Upsampling>(pipeline, fitted.image, after, settings));
  edit.inside = own_part(fitted, fitted.mask);
  return inside_mask(mask, photo, upsampling(photo, edit));
}

}  // namespace ip2p
