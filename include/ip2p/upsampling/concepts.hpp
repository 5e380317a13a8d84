#pragma once

/// \file
/// Contract of this folder: how an edit that a model made at its own size reaches a photograph of any size.
///
/// A latent editor loses two things: pixels, and what its codec cannot carry. A policy of this axis gets the model's
/// pictures before and after the edit and gives the edited photograph. The picture before is the codec's round trip of
/// the photograph, not the photograph itself: both pictures are then blurred alike, and what differs is the edit alone.
///
/// Skeleton:
///
///     struct AverageShift {                        // moves all colours by the edit's average change
///       ip2p::Image operator()(const ip2p::Image& photo, const ip2p::ModelEdit& edit) const {
///         const auto &before = edit.before.pixels, &after = edit.after.pixels;
///         double change[3] = {};
///         for (std::size_t i = 0; i < after.size(); ++i) change[i % 3] += 3.0 * (after[i] - before[i]);
///         ip2p::Image edited = photo;
///         for (std::size_t i = 0; i < edited.pixels.size(); ++i) {
///           const double value = photo.pixels[i] + change[i % 3] / static_cast<double>(after.size());
///           edited.pixels[i] = static_cast<std::uint8_t>(std::clamp(value + 0.5, 0.0, 255.0));
///         }
///         return edited;
///       }
///     };
///     static_assert(ip2p::UpsamplingPolicy<AverageShift>);
///     // then: ip2p::testing::check_upsampling(AverageShift{})

#include <concepts>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/resample.hpp"

namespace ip2p {

/// An edit at the model's size.
struct ModelEdit {
  /// The codec's round trip of what the model saw of the photograph. Empty for policies that do not read it
  /// (`reads_before`).
  Image before;
  Image after;  ///< The model's answer, of the same size.
  Box seen;     ///< The part of the photograph that the model saw, in the photograph's pixels; see `seen_part`.
  /// Of the same size, bright where the model was free to edit. Elsewhere the pictures tell nothing about the edit, and
  /// what becomes of these pixels does not matter. Empty: it was free everywhere.
  Image inside = {};
};

namespace detail {

template <class Upsampling>
concept HasUpsampling = requires(const Upsampling& upsampling, const Image& photo, const ModelEdit& edit) {
  { upsampling(photo, edit) } -> std::same_as<Image>;
};

template <class Upsampling>
concept NamesReadsBefore = requires {
  &Upsampling::reads_before;
};

template <class Upsampling>
concept HasReadsBefore = requires {
  { Upsampling::reads_before } -> std::same_as<const bool&>;
};

template <class Upsampling>
concept NamesEnlarges = requires {
  &Upsampling::enlarges;
};

template <class Upsampling>
concept HasEnlarges = requires {
  { Upsampling::enlarges } -> std::same_as<const bool&>;
};

}  // namespace detail

/// Carries an edit from the model's size to the photograph's.
///
///     Image operator()(const Image& photo, const ModelEdit& edit) const;
///     static constexpr bool reads_before;      // optional; without it: true. False saves the codec's round trip
///     static constexpr bool enlarges;          // optional; without it: true. False: gives `edit.after` as it is
///
/// Laws (`ip2p::testing::check_upsampling`):
///  1. the result has the photograph's size, whatever that is, and `edit.after` is given unchanged where `enlarges` is
///     false;
///  2. equal arguments give identical bits, in any number of threads;
///  3. if `before` is read and equals `after`, the result is the photograph, bit for bit;
///  4. if `before` is read and `after` differs from it by one colour, so does the result from the photograph, also
///     outside of what the model saw;
///  5. if `before` is not read, the result does not depend on it.
template <class Upsampling>
concept UpsamplingPolicy = std::copy_constructible<Upsampling> && detail::HasUpsampling<Upsampling>;

/// Fails to compile, with a one-sentence message, unless `Upsampling` is an `UpsamplingPolicy` and what it says about
/// itself are constants.
template <class Upsampling>
consteval void require_upsampling_policy() {
  static_assert(std::copy_constructible<Upsampling>,
                "ip2p: UpsamplingPolicy must be copyable; see docs/reference/concepts.md#upsamplingpolicy");
  static_assert(detail::HasUpsampling<Upsampling>,
                "ip2p: UpsamplingPolicy needs `Image operator()(const Image& photo, const ModelEdit&) const`; "
                "see docs/reference/concepts.md#upsamplingpolicy");
  if constexpr (detail::NamesReadsBefore<Upsampling>) {
    static_assert(detail::HasReadsBefore<Upsampling>,
                  "ip2p: UpsamplingPolicy needs `reads_before` as `static constexpr bool`; "
                  "see docs/reference/concepts.md#upsamplingpolicy");
  }
  if constexpr (detail::NamesEnlarges<Upsampling>) {
    static_assert(detail::HasEnlarges<Upsampling>,
                  "ip2p: UpsamplingPolicy needs `enlarges` as `static constexpr bool`; "
                  "see docs/reference/concepts.md#upsamplingpolicy");
  }
}

/// Whether a policy needs the codec's round trip.
template <class Upsampling>
consteval bool reads_before() {
  if constexpr (detail::HasReadsBefore<Upsampling>) {
    return Upsampling::reads_before;
  } else {
    return true;
  }
}

/// Whether a policy's result has the photograph's size.
template <class Upsampling>
consteval bool enlarges() {
  if constexpr (detail::HasEnlarges<Upsampling>) {
    return Upsampling::enlarges;
  } else {
    return true;
  }
}

/// \throws Error for inconsistent pictures, a model's pictures of different sizes, and a part that is empty or not
/// inside the photograph. \param with_before whether `edit.before` counts
inline void require_model_edit(const Image& photo, const ModelEdit& edit, bool with_before = true) {
  require_consistent(photo, "photograph");
  require_consistent(edit.after, "edited picture");
  if (with_before) {
    require_consistent(edit.before, "picture before the edit");
    require(edit.before.width == edit.after.width && edit.before.height == edit.after.height,
            "picture before the edit: expected the edited picture's size {}x{}, found {}x{}", edit.after.width,
            edit.after.height, edit.before.width, edit.before.height);
  }
  if (!edit.inside.pixels.empty()) {
    require_consistent(edit.inside, "mask of the edit");
    require(edit.inside.width == edit.after.width && edit.inside.height == edit.after.height,
            "mask of the edit: expected the edited picture's size {}x{}, found {}x{}", edit.after.width,
            edit.after.height, edit.inside.width, edit.inside.height);
  }
  const auto& seen = edit.seen;
  require(seen.left >= 0 && seen.top >= 0 && seen.right <= static_cast<float>(photo.width) &&
              seen.bottom <= static_cast<float>(photo.height) && seen.left < seen.right && seen.top < seen.bottom,
          "part that the model saw: expected a box inside {}x{}, found ({:g}, {:g}, {:g}, {:g})", photo.width,
          photo.height, seen.left, seen.top, seen.right, seen.bottom);
}

}  // namespace ip2p
