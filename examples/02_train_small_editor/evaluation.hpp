#pragma once

/// \file
/// How well the small editor follows instructions, on photographs and phrasings it has never seen.

#include <ATen/ATen.h>
#include <ATen/ops/cat.h>

#include <cstdint>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "edits.hpp"
#include "ip2p/pipeline/edit.hpp"

namespace small_editor {

/// Measurements for one family.
struct FamilyScore {
  std::string name;
  std::int64_t edits = 0;
  std::int64_t nearest = 0;    ///< Edits whose result is nearest to the right family's target among all families.
  double psnr_edit = 0.0;      ///< Mean PSNR of the result to the computed target, dB.
  double psnr_unedited = 0.0;  ///< Mean PSNR of the photograph itself to that target, dB.
};

/// All measurements.
struct Scores {
  std::vector<FamilyScore> families;
  double psnr_round_trip = 0.0;  ///< Mean PSNR of the autoencoder's round trip to the photograph, dB.
  double psnr_empty = 0.0;       ///< Mean PSNR with an empty instruction to that round trip, dB.
  at::Tensor sheet;              ///< uint8 [3,H,W]: photographs and their edits side by side.

  [[nodiscard]] FamilyScore total() const {
    FamilyScore sum{"all"};
    for (const auto& family : families) {
      sum.edits += family.edits;
      sum.nearest += family.nearest;
      sum.psnr_edit += family.psnr_edit * static_cast<double>(family.edits);
      sum.psnr_unedited += family.psnr_unedited * static_cast<double>(family.edits);
    }
    sum.psnr_edit /= static_cast<double>(sum.edits);
    sum.psnr_unedited /= static_cast<double>(sum.edits);
    return sum;
  }
};

/// Peak signal-to-noise ratio of two pictures [..] in [0,1], in dB; a perfect match counts as 60.
inline double psnr(const at::Tensor& a, const at::Tensor& b) {
  return -10.0 * std::log10(std::max(1e-6, (a - b).square().mean().item<double>()));
}

/// Edits every photograph by every family with `phrasings` held-out phrasings each, and with "".
/// \param photographs float [3,H,W] in [0,1], each  \param held_out false measures with training phrasings
/// \param on_part called with the number of photographs and phrasings done, and of all
template <class Pipeline>
Scores evaluate(const Pipeline& pipeline, std::span<const at::Tensor> photographs, const ip2p::RunSettings& settings,
                std::int64_t phrasings = 1, bool held_out = true,
                const std::function<void(std::int64_t, std::int64_t)>& on_part = {}) {
  const at::NoGradGuard no_grad;
  const auto& families = edit_families();
  Scores scores;
  for (const auto& family : families) scores.families.push_back({std::string(family.name)});
  std::vector<at::Tensor> rows;
  std::uint64_t seed = settings.seed;
  for (std::size_t p = 0; p < photographs.size(); ++p) {
    const auto& photo = photographs[p];
    std::vector<at::Tensor> targets;
    for (const auto& family : families) targets.push_back(family.apply(photo));
    const auto image = (photo * 2 - 1).unsqueeze(0);
    const auto decoded = [&](const at::Tensor& latents) {
      return (pipeline.decode_to_tensor(latents) + 1).div(2).clamp(0, 1);
    };
    const auto round_trip = decoded(pipeline.clean_latents(image))[0];
    scores.psnr_round_trip += psnr(round_trip, photo);
    for (std::int64_t k = 0; k < phrasings; ++k) {
      std::vector<std::string> instructions;
      for (const auto& family : families) {
        const auto texts = held_out ? family.held_out_texts() : family.training_texts();
        instructions.emplace_back(texts[(p + static_cast<std::size_t>(k)) % texts.size()]);
      }
      instructions.emplace_back("");
      std::vector<std::uint64_t> seeds;
      for (std::size_t i = 0; i < instructions.size(); ++i) seeds.push_back(seed++);
      ip2p::TorchNoise noise(seeds);
      const auto results = decoded(pipeline.sample(image, instructions, settings, noise));
      for (std::size_t f = 0; f < families.size(); ++f) {
        auto& score = scores.families[f];
        const auto result = results[static_cast<std::int64_t>(f)];
        std::size_t nearest = 0;
        for (std::size_t other = 1; other < families.size(); ++other) {
          if (psnr(result, targets[other]) > psnr(result, targets[nearest])) nearest = other;
        }
        ++score.edits;
        score.nearest += nearest == f ? 1 : 0;
        score.psnr_edit += psnr(result, targets[f]);
        score.psnr_unedited += psnr(photo, targets[f]);
      }
      scores.psnr_empty += psnr(results[static_cast<std::int64_t>(families.size())], round_trip);
      if (k == 0) {
        auto shown = results.unbind(0);
        const auto empty = shown.back();
        shown.pop_back();
        targets.insert(targets.begin(), {photo, round_trip});
        shown.insert(shown.begin(), {photo, empty});
        rows.push_back(at::cat({at::cat(targets, 2), at::cat(shown, 2)}, 1));
      }
      if (on_part) on_part(static_cast<std::int64_t>(p) * phrasings + k + 1, std::ssize(photographs) * phrasings);
    }
  }
  for (auto& score : scores.families) {
    score.psnr_edit /= static_cast<double>(score.edits);
    score.psnr_unedited /= static_cast<double>(score.edits);
  }
  const auto count = static_cast<double>(photographs.size());
  scores.psnr_round_trip /= count;
  scores.psnr_empty /= count * static_cast<double>(phrasings);
  scores.sheet = (at::cat(rows, 1) * 255).round().to(at::kByte);
  return scores;
}

/// The scores as a Markdown table.
inline std::string table(const Scores& scores) {
  std::string text = "| edit | right edit nearest | PSNR to target | unedited photo | gain |\n|---|---|---|---|---|\n";
  auto rows = scores.families;
  rows.push_back(scores.total());
  for (const auto& row : rows) {
    text += fmt::format("| {} | {} of {} ({:.0f} %) | {:.1f} dB | {:.1f} dB | {:+.1f} dB |\n", row.name, row.nearest,
                        row.edits, 100.0 * static_cast<double>(row.nearest) / static_cast<double>(row.edits),
                        row.psnr_edit, row.psnr_unedited, row.psnr_edit - row.psnr_unedited);
  }
  text += fmt::format(
      "\nEmpty instruction: {:.1f} dB to the autoencoder's own round trip, which is {:.1f} dB to the "
      "photograph.\n",
      scores.psnr_empty, scores.psnr_round_trip);
  return text;
}

}  // namespace small_editor
