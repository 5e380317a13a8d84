#pragma once

/// \file
/// Edits at the photograph's own size: what a pipeline made at the model's size, carried there by an
/// `UpsamplingPolicy`.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/run_settings.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "ip2p/upsampling/concepts.hpp"

namespace ip2p {

/// The part of a photograph that `prepare_photos` shows to a model: all of it with diffusers' numerics; with the
/// released program's, its middle in the aspect ratio of a size of multiples of 64.
/// \param resolution, numerics as for `edit_size`
inline Box seen_part(Size photo, std::optional<std::int64_t> resolution, Numerics numerics) {
  if (numerics == Numerics::released) return fit_box(photo, edit_size(photo.width, photo.height, resolution, numerics));
  return {0, 0, static_cast<float>(photo.width), static_cast<float>(photo.height)};
}

/// A pipeline's pictures with what `Upsampling` needs to enlarge them: the part of the photograph that the model saw
/// and the codec's round trip of it, for which the codec works once more, however many pictures there are. \param after
/// what the pipeline made of `photo` under `settings`. If one is the prepared photograph itself, unedited, so is its
/// picture before. \return as many as there are pictures in `after`, in their order \throws Error when one does not
/// have the size at which `settings` say that the photograph is edited
template <class Upsampling, class Pipeline>
[[nodiscard]] std::vector<ModelEdit> model_edits(const Pipeline& pipeline, const Image& photo,
                                                 std::span<const Image> after, const RunSettings& settings = {}) {
  require_upsampling_policy<Upsampling>();
  const auto options = pipeline.completed(settings);
  const Size size{photo.width, photo.height};
  const auto edited = edit_size(photo.width, photo.height, options.resolution, *options.numerics);
  std::vector<ModelEdit> edits;
  for (const Image& picture : after) {
    require(picture.width == edited.width && picture.height == edited.height,
            "edited picture: expected {}x{}, the size at which the settings edit the photograph, found {}x{}",
            edited.width, edited.height, picture.width, picture.height);
    edits.push_back({{}, picture, seen_part(size, options.resolution, *options.numerics)});
  }
  if constexpr (reads_before<Upsampling>()) {
    const auto prepared = prepare_photos({&photo, 1}, options.resolution, *options.numerics);
    const auto unedited = tensor_to_images(prepared, Rounding::nearest).front();
    std::optional<Image> round_trip;
    for (ModelEdit& edit : edits) {
      if (edit.after != unedited && !round_trip) {
        const auto decoded = pipeline.decode_to_tensor(pipeline.clean_latents(prepared));
        round_trip = tensor_to_images(decoded, rounding_of(*options.numerics)).front();
      }
      edit.before = edit.after == unedited ? unedited : *round_trip;
    }
  }
  return edits;
}

/// The same for one picture.
template <class Upsampling, class Pipeline>
[[nodiscard]] ModelEdit model_edit(const Pipeline& pipeline, const Image& photo, const Image& after,
                                   const RunSettings& settings = {}) {
  return std::move(model_edits<Upsampling>(pipeline, photo, {&after, 1}, settings).front());
}

/// A pipeline's pictures of one photograph at the photograph's own size, with the photograph's detail.
/// \param photo that was edited, of any size  \param after what the pipeline made of it under `settings`, which may
/// differ in what the size does not depend on, such as strengths and seeds
/// \return the edited photographs; edges that the model did not see are edited as what lies next to them
/// \throws Error as `model_edits`
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] std::vector<Image> at_full_size(const Pipeline& pipeline, const Image& photo,
                                              std::span<const Image> after, const RunSettings& settings = {},
                                              const Upsampling& upsampling = {}) {
  std::vector<Image> enlarged;
  for (const ModelEdit& edit : model_edits<Upsampling>(pipeline, photo, after, settings)) {
    enlarged.push_back(upsampling(photo, edit));
  }
  return enlarged;
}

/// The same for one picture.
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] Image at_full_size(const Pipeline& pipeline, const Image& photo, const Image& after,
                                 const RunSettings& settings = {}, const Upsampling& upsampling = {}) {
  return upsampling(photo, model_edit<Upsampling>(pipeline, photo, after, settings));
}

/// `edited` where `mask` is bright, `photo` elsewhere, bit for bit. All have one size.
/// \param mask a picture whose brighter half of the range means "edit", as for `masked_edit`
/// \throws Error for pictures of different sizes
[[nodiscard]] inline Image inside_mask(const Image& mask, const Image& photo, Image edited) {
  require_consistent(mask, "mask");
  require_consistent(photo, "photograph");
  require_consistent(edited, "edited picture");
  const auto same = [&](const Image& image) { return image.width == photo.width && image.height == photo.height; };
  require(same(mask) && same(edited),
          "mask and edited picture: expected the photograph's size {}x{}, found {}x{} and {}x{}", photo.width,
          photo.height, mask.width, mask.height, edited.width, edited.height);
  for (std::size_t i = 0; i < photo.pixels.size(); i += 3) {
    // Brighter than the middle, 127.5, on average.
    if (2 * (mask.pixels[i] + mask.pixels[i + 1] + mask.pixels[i + 2]) > 3 * 255) continue;
    std::copy_n(photo.pixels.begin() + static_cast<std::ptrdiff_t>(i), 3,
                edited.pixels.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return edited;
}

/// The picture of a masked edit at the photograph's own size: learned inside of the mask, and outside of it the
/// photograph, bit for bit.
/// \param mask of the photograph's size, as `masked_edit` and `InpaintPipeline` take it
/// \throws Error as `model_edits`, and for a mask of another size
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] Image at_full_size(const Pipeline& pipeline, const Image& photo, const Image& mask, const Image& after,
                                 const RunSettings& settings = {}, const Upsampling& upsampling = {}) {
  static_assert(enlarges<Upsampling>(),
                "ip2p: at_full_size with a mask needs an UpsamplingPolicy that enlarges; "
                "see docs/reference/concepts.md#upsamplingpolicy");
  require(mask.width == photo.width && mask.height == photo.height,
          "mask: expected the photograph's size {}x{}, found {}x{}", photo.width, photo.height, mask.width,
          mask.height);
  auto edit = model_edit<Upsampling>(pipeline, photo, after, settings);
  const auto options = pipeline.completed(settings);
  const auto prepared = prepare_photos({&mask, 1}, options.resolution, *options.numerics);
  edit.inside = tensor_to_images(prepared, Rounding::nearest).front();
  return inside_mask(mask, photo, upsampling(photo, edit));
}

/// Edits one photograph at its own size.
/// \param pipeline an `EditPipeline`  \throws Error as the pipeline does; Cancelled
template <class Pipeline, class Upsampling = BilateralGuidedUpsampling>
[[nodiscard]] Image edit_at_full_size(const Pipeline& pipeline, const Image& photo, const std::string& instruction,
                                      const RunSettings& settings = {}, const Upsampling& upsampling = {}) {
  return at_full_size(pipeline, photo, pipeline(photo, instruction, settings), settings, upsampling);
}

}  // namespace ip2p
