#pragma once

/// \file
/// How much of the computed looks the small editor's results have at the photographs' own size.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "edits.hpp"
#include "evaluation.hpp"
#include "ip2p/evaluate/ssim.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/psnr.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "ip2p/upsampling/enlarged.hpp"

namespace small_editor {

/// A picture at full size compared with the computed look, or the mean of several.
struct FullSizeMeasures {
  double psnr = 0.0;       ///< dB
  double ssim = 0.0;       ///< Of the middle, at most 1024 x 1024 pixels.
  double sharpness = 0.0;  ///< Share of the look's energy of gradients.

  FullSizeMeasures& operator+=(const FullSizeMeasures& one) {
    psnr += one.psnr;
    ssim += one.ssim;
    sharpness += one.sharpness;
    return *this;
  }
};

/// Measurements for one family; sums until `finish`.
struct FullSizeScore {
  std::string name;
  std::int64_t edits = 0;
  FullSizeMeasures unedited{}, enlarged{}, full{};
  std::int64_t worse = 0;  ///< Results at full size that are over 0.3 dB further from the look than the enlarged edit.

  void add(const FullSizeScore& one) {
    edits += one.edits;
    worse += one.worse;
    unedited += one.unedited;
    enlarged += one.enlarged;
    full += one.full;
  }

  void finish() {
    for (auto* sum : {&unedited, &enlarged, &full}) {
      for (double* value : {&sum->psnr, &sum->ssim, &sum->sharpness}) {
        *value /= static_cast<double>(std::max<std::int64_t>(1, edits));
      }
    }
  }
};

/// The middle of a picture, at most `side` pixels wide and high.
inline ip2p::Image middle(const ip2p::Image& image, std::int64_t side) {
  const auto whole = ip2p::to_tensor(image);
  const auto height = std::min(side, image.height), width = std::min(side, image.width);
  return ip2p::from_tensor(
      whole.narrow(1, (image.height - height) / 2, height).narrow(2, (image.width - width) / 2, width));
}

/// Edits photographs of any size by every family and carries the results to their own size.
/// \param families those to measure  \param on_edit called with the number of edits done, and of all
template <class Pipeline>
std::vector<FullSizeScore> evaluate_full_size(const Pipeline& pipeline,
                                              std::span<const std::filesystem::path> photographs,
                                              const ip2p::RunSettings& settings, std::span<const EditFamily> families,
                                              const std::function<void(std::int64_t, std::int64_t)>& on_edit) {
  const at::NoGradGuard no_grad;
  std::vector<FullSizeScore> scores;
  for (const auto& family : families) scores.push_back({std::string(family.name)});
  for (std::size_t p = 0; p < photographs.size(); ++p) {
    const auto photo = ip2p::read_image(photographs[p]);
    const auto pixels = unit_tensor(photo);
    std::vector<ip2p::Image> after;
    for (const auto& family : families) {
      const auto texts = family.held_out_texts();
      after.push_back(pipeline(photo, std::string(texts[p % texts.size()]), settings));
    }
    const auto edits = ip2p::model_edits<ip2p::BilateralGuidedUpsampling>(pipeline, photo, after, settings);
    for (std::size_t f = 0; f < families.size(); ++f) {
      const auto look = ip2p::from_tensor((families[f].apply(pixels) * 255).round_().clamp_(0, 255).to(at::kByte));
      const auto look_energy = std::max(1e-6, gradient_energy(unit_tensor(look)));
      const auto look_middle = middle(look, 1024);
      const auto measured = [&](const ip2p::Image& picture) {
        return FullSizeMeasures{.psnr = std::min(60.0, ip2p::psnr(picture, look)),
                                .ssim = ip2p::ssim(middle(picture, 1024), look_middle),
                                .sharpness = gradient_energy(unit_tensor(picture)) / look_energy};
      };
      FullSizeScore one{{},
                        1,
                        measured(photo),
                        measured(ip2p::Enlarged{}(photo, edits[f])),
                        measured(ip2p::BilateralGuidedUpsampling{}(photo, edits[f]))};
      one.worse = one.full.psnr < one.enlarged.psnr - 0.3 ? 1 : 0;
      scores[f].add(one);
      on_edit(static_cast<std::int64_t>(p * families.size() + f + 1), std::ssize(photographs) * std::ssize(families));
    }
  }
  FullSizeScore all{"all"};
  for (const auto& score : scores) all.add(score);
  scores.push_back(all);
  for (auto& score : scores) score.finish();
  return scores;
}

/// The scores as a Markdown table.
inline std::string table(const std::vector<FullSizeScore>& scores) {
  const auto cells = [](const FullSizeMeasures& mean) {
    return fmt::format("{:.1f} dB, {:.2f}, {:.2f}", mean.psnr, mean.ssim, mean.sharpness);
  };
  std::string text =
      "| edit (PSNR to the look, SSIM, sharpness) | unedited photo | enlarged | full size | worse than enlarged |\n"
      "|---|---|---|---|---|\n";
  for (const auto& row : scores) {
    text += fmt::format("| {} | {} | {} | {} | {} of {} |\n", row.name, cells(row.unedited), cells(row.enlarged),
                        cells(row.full), row.worse, row.edits);
  }
  return text;
}

}  // namespace small_editor
