#pragma once

/// \file
/// Generates, measures and records every edit of a set at every point. Recorded samples are not generated again.

#include <ATen/core/grad_mode.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/evaluate/edit_scores.hpp"
#include "ip2p/evaluate/edit_set.hpp"
#include "ip2p/evaluate/ssim.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/evaluate/sweep_journal.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/vision/clip.hpp"
#include "ip2p/vision/clip_pixels.hpp"

namespace ip2p {

/// An editing method: returns the edited picture [1,3,H,W], fp32, roughly in [-1,1] and not clamped.
///
/// Laws: a function of both arguments; all noise comes from `PreparedEdit::seed`.
using EditMethod = std::function<at::Tensor(const PreparedEdit& edit, const EditSettings& settings)>;

/// Measures an edit's pictures. `EditMeasure` is called once per edit, the measure that it returns once per picture.
using PictureMeasure = std::function<EditMeasures(const at::Tensor& picture)>;
/// Prepares the measure of one edit's pictures.
using EditMeasure = std::function<PictureMeasure(const PreparedEdit& edit)>;

/// A CLIP model and the range in which it gets pictures.
struct ClipMeasure {
  std::string name;                      ///< Prefix of its scores: "name/direction".
  Clip clip;                             ///< The model.
  ClipRange range = ClipRange::correct;  ///< How pixel values are handed to it.
};

/// The scores of `edit_scores` with each CLIP, and the structural similarity to the photograph ("ssim"). Features of
/// photograph and captions are computed once per edit.
inline EditMeasure clip_measures(std::vector<ClipMeasure> clips) {
  return [shared = std::make_shared<const std::vector<ClipMeasure>>(std::move(clips))](
             const PreparedEdit& edit) -> PictureMeasure {
    const at::NoGradGuard no_grad;
    struct Known {
      at::Tensor photograph, input, output;
    };
    std::vector<Known> known;
    for (const auto& [name, clip, range] : *shared) {
      known.push_back({clip.image_features(edit.photograph, range), clip.text_features({&edit.words.input, 1}),
                       clip.text_features({&edit.words.output, 1})});
    }
    const auto photograph = tensor_to_images(edit.photograph, Rounding::nearest).front();
    return [shared, known = std::move(known), photograph](const at::Tensor& picture) {
      const at::NoGradGuard no_grad;
      EditMeasures scores{{"ssim", ssim(photograph, tensor_to_images(picture, Rounding::nearest).front())}};
      for (std::size_t i = 0; i < known.size(); ++i) {
        const auto& [name, clip, range] = (*shared)[i];
        const auto& [before, input, output] = known[i];
        const auto found = edit_scores(before, clip.image_features(picture, range), input, output);
        scores[name + "/direction"] = found.direction.item<double>();
        scores[name + "/image"] = found.image.item<double>();
        scores[name + "/text_before"] = found.text_before.item<double>();
        scores[name + "/text_after"] = found.text_after.item<double>();
      }
      return scores;
    };
  };
}

/// Where to save pictures of a set's first edits for inspection.
struct KeptPictures {
  std::filesystem::path folder = {};  ///< Made if it is absent.
  std::int64_t edits = 0;             ///< Number of edits whose pictures are saved.

  /// Path of the photograph of an edit.
  [[nodiscard]] std::filesystem::path photograph(std::int64_t edit) const {
    return folder / fmt::format("{:06}-photograph.png", edit);
  }
  /// Path of the picture of an edit at a point of the sweep.
  [[nodiscard]] std::filesystem::path picture(std::int64_t edit, const SweepPoint& point) const {
    return folder / fmt::format("{:06}-{}.png", edit, detail::text_checksum(point.key()));
  }
};

/// Settings of a sweep's run.
struct SweepOptions {
  std::int64_t rank = 0, processes = 1;  ///< This process handles the edits rank, rank + processes, ...
  KeptPictures kept = {};                ///< Pictures that stay on disk; none by default.
  std::stop_token stop = {};             ///< Checked before each picture.
  /// Called after each picture with this process's number of finished pictures and its total.
  std::function<void(std::int64_t done, std::int64_t all)> on_sample = {};
};

/// What this process still has to do: for each edit the indices of the points that `results` lacks, or whose picture
/// should have been saved but is missing.
inline std::map<std::int64_t, std::vector<std::size_t>> open_samples(std::span<const SweepPoint> points,
                                                                     const EditSet& edits, const SweepResults& results,
                                                                     const SweepOptions& options) {
  require(options.rank >= 0 && options.rank < options.processes, "sweep: expected a rank below {}, found {}",
          options.processes, options.rank);
  std::map<std::int64_t, std::vector<std::size_t>> open;
  for (std::int64_t i = options.rank; i < edits.size(); i += options.processes) {
    const auto id = edits.id(i);
    const auto missing = [&](const std::filesystem::path& path) {
      return i < options.kept.edits && !std::filesystem::exists(path);
    };
    for (std::size_t k = 0; k < points.size(); ++k) {
      if (results.find(points[k].key(), id) == nullptr || missing(options.kept.photograph(i)) ||
          missing(options.kept.picture(i, points[k]))) {
        open[i].push_back(k);
      }
    }
  }
  return open;
}

/// Generates and measures this process's open samples, edit by edit, and adds them to the journal.
/// \param methods by the names that the points use  \throws Error as methods and measures do; Cancelled
inline void run_sweep(std::span<const SweepPoint> points, const EditSet& edits,
                      const std::map<std::string, EditMethod>& methods, const EditMeasure& measure,
                      const SweepResults& results, SweepJournal& journal, const SweepOptions& options = {}) {
  for (const auto& point : points) {
    require(methods.contains(point.method), "sweep: expected a method '{}', found none", point.method);
  }
  const auto open = open_samples(points, edits, results, options);
  std::int64_t all = 0, done = 0;
  for (const auto& [i, numbers] : open) all += static_cast<std::int64_t>(numbers.size());
  for (const auto& [i, numbers] : open) {
    const auto edit = edits.get(i);
    const auto of_picture = measure(edit);
    const bool kept = i < options.kept.edits;
    if (kept) {
      std::error_code ignored;  // a process that made the folder and was refused has removed it
      std::filesystem::create_directories(options.kept.folder, ignored);
      write_image(options.kept.photograph(i), tensor_to_images(edit.photograph, Rounding::nearest).front());
    }
    for (const auto number : numbers) {
      if (options.stop.stop_requested()) throw Cancelled(fmt::format("cancelled after {} of {} samples", done, all));
      const auto& point = points[number];
      const auto picture = methods.at(point.method)(edit, point.settings);
      require(picture.defined() && picture.sizes() == edit.photograph.sizes(),
              "method {}: expected a picture {}, found {}", point.method, shape_text(edit.photograph.sizes()),
              picture.defined() ? shape_text(picture.sizes()) : "none");
      const auto scores = of_picture(picture);
      if (kept) write_image(options.kept.picture(i, point), tensor_to_images(picture, Rounding::nearest).front());
      journal.add(point.key(), edit.id, scores);  // after the picture, so that every recorded sample has one
      ++done;
      if (options.on_sample) options.on_sample(done, all);
    }
  }
}

}  // namespace ip2p
