#pragma once

/// \file
/// How well the small editor follows instructions, on photographs and phrasings it has never seen.

#include <ATen/ATen.h>
#include <ATen/ops/cat.h>

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "edits.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "variations.hpp"

namespace small_editor {

/// Measurements for one family, or one kind of variation.
struct FamilyScore {
  std::string name;
  std::int64_t edits = 0;
  std::int64_t nearest = 0;       ///< Edits whose result is nearer to the right target than to any other it is held to.
  double psnr_edit = 0.0;         ///< Mean PSNR of the result to the computed target, dB.
  double psnr_unedited = 0.0;     ///< Mean PSNR of the photograph itself to that target, dB.
  double sharpness = 0.0;         ///< Mean share of the target's energy of gradients that the result has.
  double psnr_detail = 0.0;       ///< Mean PSNR to the target of the photograph changed as the result is, dB.
  double sharpness_detail = 0.0;  ///< Its sharpness.

  void add(const FamilyScore& one) {
    edits += one.edits;
    nearest += one.nearest;
    psnr_edit += one.psnr_edit;
    psnr_unedited += one.psnr_unedited;
    sharpness += one.sharpness;
    psnr_detail += one.psnr_detail;
    sharpness_detail += one.sharpness_detail;
  }

  /// Sums become means.
  void finish() { scale(1.0 / static_cast<double>(std::max<std::int64_t>(1, edits))); }

  /// Multiplies all that `finish` divides.
  void scale(double factor) {
    for (double* sum : {&psnr_edit, &psnr_unedited, &sharpness, &psnr_detail, &sharpness_detail}) *sum *= factor;
  }
};

/// All measurements.
struct Scores {
  std::vector<FamilyScore> families;
  std::vector<FamilyScore> variations;  ///< Of `small_editor::variations`; empty where none were measured.
  double psnr_round_trip = 0.0;         ///< Mean PSNR of the autoencoder's round trip to the photograph, dB.
  double psnr_empty = 0.0;              ///< Mean PSNR with an empty instruction to that round trip, dB.
  double psnr_empty_photo = 0.0;        ///< The same to the photograph itself, dB.
  double psnr_empty_detail = 0.0;       ///< The same with the photograph's own detail, dB.
  at::Tensor sheet;                     ///< uint8 [3,H,W]: photographs and their edits side by side.

  [[nodiscard]] FamilyScore total() const {
    FamilyScore sum{"all"};
    for (auto family : families) {
      family.scale(static_cast<double>(family.edits));
      sum.add(family);
    }
    sum.finish();
    return sum;
  }
};

/// What `evaluate` measures.
struct EvaluationOptions {
  std::int64_t phrasings = 1;              ///< Of each family and photograph.
  std::int64_t variations = 2;             ///< Of each kind, of each photograph.
  std::vector<std::string> families = {};  ///< Names of those to measure, and to hold results to; empty: all.
  bool held_out = true;                    ///< False measures with training phrasings.
  /// Called with the number of photographs and phrasings done, and of all.
  std::function<void(std::int64_t, std::int64_t)> on_part = {};
};

/// Peak signal-to-noise ratio of two pictures [..] in [0,1], in dB; a perfect match counts as 60.
inline double psnr(const at::Tensor& a, const at::Tensor& b) {
  return -10.0 * std::log10(std::max(1e-6, (a - b).square().mean().item<double>()));
}

/// The energy of a picture's gradients, [3,H,W]: the sum of squared differences of neighbours.
inline double gradient_energy(const at::Tensor& picture) {
  return ((picture.slice(1, 1) - picture.slice(1, 0, -1)).square().sum() +
          (picture.slice(2, 1) - picture.slice(2, 0, -1)).square().sum())
      .item<double>();
}

/// A picture in 8 bits, [3,H,W] in [0,1].
inline at::Tensor unit_tensor(const ip2p::Image& image) { return ip2p::to_tensor(image).to(at::kFloat).div_(255); }

/// The photograph, with the colours changed as the result changes those of the autoencoder's round trip: what programs
/// make of a result with `--full-size`. All pictures are float [3,H,W] in [0,1].
inline at::Tensor with_own_detail(const at::Tensor& photo, const at::Tensor& round_trip, const at::Tensor& result) {
  const auto image = [](const at::Tensor& picture) {
    return ip2p::from_tensor((picture * 255).round().clamp(0, 255).to(at::kByte));
  };
  const auto after = image(result);
  const ip2p::Box all{.right = static_cast<float>(after.width), .bottom = static_cast<float>(after.height)};
  return unit_tensor(ip2p::BilateralGuidedUpsampling{}(image(photo), {image(round_trip), after, all}));
}

/// How a result compares with its target, with other targets and with the photograph. \param detailed the result with
/// the photograph's own detail (`with_own_detail`)
inline FamilyScore score_of(const at::Tensor& result, const at::Tensor& detailed, const at::Tensor& target,
                            std::span<const at::Tensor> others, const at::Tensor& photo) {
  const auto reached = psnr(result, target);
  const bool nearest = std::all_of(others.begin(), others.end(),
                                   [&](const at::Tensor& other) { return psnr(result, other) <= reached; });
  return {.name = {},
          .edits = 1,
          .nearest = nearest ? 1 : 0,
          .psnr_edit = reached,
          .psnr_unedited = psnr(photo, target),
          .sharpness = gradient_energy(result) / std::max(1e-6, gradient_energy(target)),
          .psnr_detail = psnr(detailed, target),
          .sharpness_detail = gradient_energy(detailed) / std::max(1e-6, gradient_energy(target))};
}

/// Edits every photograph by every family with held-out phrasings, and with "", and by random variations.
/// \param photographs float [3,H,W] in [0,1], each
template <class Pipeline>
Scores evaluate(const Pipeline& pipeline, std::span<const at::Tensor> photographs, const ip2p::RunSettings& settings,
                const EvaluationOptions& options) {
  const at::NoGradGuard no_grad;
  const auto families = chosen_families(options.families);
  Scores scores;
  for (const auto& family : families) scores.families.push_back({std::string(family.name)});
  if (options.variations > 0) {
    for (const auto& [kind, name] : variations) scores.variations.push_back({std::string(name)});
  }
  std::vector<at::Tensor> rows;
  std::uint64_t seed = settings.seed;
  const auto noise = [&](std::size_t count) {
    std::vector<std::uint64_t> seeds;
    for (std::size_t i = 0; i < count; ++i) seeds.push_back(seed++);
    return ip2p::TorchNoise(seeds);
  };
  const auto decoded = [&](const at::Tensor& latents) {
    return (pipeline.decode_to_tensor(latents) + 1).div(2).clamp(0, 1);
  };
  for (std::size_t p = 0; p < photographs.size(); ++p) {
    const auto& photo = photographs[p];
    std::vector<at::Tensor> targets;
    for (const auto& family : families) targets.push_back(family.apply(photo));
    const auto image = (photo * 2 - 1).unsqueeze(0);
    const auto round_trip = decoded(pipeline.clean_latents(image))[0];
    scores.psnr_round_trip += psnr(round_trip, photo);
    const auto detailed = [&](const at::Tensor& result) { return with_own_detail(photo, round_trip, result); };
    for (std::int64_t k = 0; k < options.phrasings; ++k) {
      std::vector<std::string> instructions;
      for (const auto& family : families) {
        const auto texts = options.held_out ? family.held_out_texts() : family.training_texts();
        instructions.emplace_back(texts[(p + static_cast<std::size_t>(k)) % texts.size()]);
      }
      instructions.emplace_back("");
      auto source = noise(instructions.size());
      const auto results = decoded(pipeline.sample(image, instructions, settings, source));
      for (std::size_t f = 0; f < families.size(); ++f) {
        const auto result = results[static_cast<std::int64_t>(f)];
        scores.families[f].add(score_of(result, detailed(result), targets[f], targets, photo));
      }
      const auto unchanged = results[static_cast<std::int64_t>(families.size())];
      scores.psnr_empty += psnr(unchanged, round_trip);
      scores.psnr_empty_photo += psnr(unchanged, photo);
      scores.psnr_empty_detail += psnr(detailed(unchanged), photo);
      if (k == 0) {
        auto shown = results.unbind(0);
        const auto empty = shown.back();
        shown.pop_back();
        auto above = targets;
        above.insert(above.begin(), {photo, round_trip});
        shown.insert(shown.begin(), {photo, empty});
        rows.push_back(at::cat({at::cat(above, 2), at::cat(shown, 2)}, 1));
      }
      if (options.on_part) {
        options.on_part(static_cast<std::int64_t>(p) * options.phrasings + k + 1,
                        std::ssize(photographs) * options.phrasings);
      }
    }
    if (options.variations == 0) continue;
    std::vector<VariedEdit> edits;
    std::vector<std::string> instructions;
    for (std::size_t kind = 0; kind < variations.size(); ++kind) {
      ip2p::SampleRandom random(settings.seed, p, kind);
      for (std::int64_t i = 0; i < options.variations; ++i) {
        edits.push_back(random_variation(variations[kind].first, random));
        instructions.push_back(random_text(edits.back(), options.held_out, random));
      }
    }
    auto source = noise(edits.size());
    const auto results = decoded(pipeline.sample(image, instructions, settings, source));
    for (std::size_t i = 0; i < edits.size(); ++i) {
      const auto result = results[static_cast<std::int64_t>(i)];
      scores.variations[i / static_cast<std::size_t>(options.variations)].add(
          score_of(result, detailed(result), edits[i].apply(photo), edits[i].mistaken(photo), photo));
    }
  }
  for (auto* list : {&scores.families, &scores.variations}) {
    for (auto& score : *list) score.finish();
  }
  const auto count = static_cast<double>(photographs.size());
  scores.psnr_round_trip /= count;
  scores.psnr_empty /= count * static_cast<double>(options.phrasings);
  scores.psnr_empty_photo /= count * static_cast<double>(options.phrasings);
  scores.psnr_empty_detail /= count * static_cast<double>(options.phrasings);
  scores.sheet = (at::cat(rows, 1) * 255).round().to(at::kByte);
  return scores;
}

/// `evaluate` without variations, in the midst of a training; nothing where it is cut short, which leaves the training
/// to end as it ends on a signal.
template <class Pipeline>
std::optional<Scores> evaluate_in_training(const Pipeline& pipeline, std::span<const at::Tensor> photographs,
                                           const ip2p::RunSettings& settings) {
  try {
    return evaluate(pipeline, photographs, settings, EvaluationOptions{.variations = 0});
  } catch (const ip2p::Cancelled&) {
    return std::nullopt;
  }
}

/// The scores as Markdown tables.
inline std::string table(const Scores& scores) {
  const auto row_of = [](const FamilyScore& row) {
    return fmt::format(
        "| {} | {} of {} ({:.0f} %) | {:.1f} dB | {:.1f} dB | {:+.1f} dB | {:.2f} | {:.1f} dB, {:.2f} |\n", row.name,
        row.nearest, row.edits, 100.0 * static_cast<double>(row.nearest) / static_cast<double>(row.edits),
        row.psnr_edit, row.psnr_unedited, row.psnr_edit - row.psnr_unedited, row.sharpness, row.psnr_detail,
        row.sharpness_detail);
  };
  const auto head = [](const char* what, const char* right) {
    return fmt::format(
        "| {} | {} nearest | PSNR to target | unedited photo | gain | sharpness | with the photograph's detail |\n"
        "|---|---|---|---|---|---|---|\n",
        what, right);
  };
  auto text = head("edit", "right edit");
  for (const auto& row : scores.families) text += row_of(row);
  text += row_of(scores.total());
  if (!scores.variations.empty()) {
    text += "\n" + head("variation", "right one");
    for (const auto& row : scores.variations) text += row_of(row);
  }
  text += fmt::format(
      "\nEmpty instruction: {:.1f} dB to the photograph ({:.1f} with its own detail) and {:.1f} dB to the "
      "autoencoder's own round trip, which is {:.1f} dB to the photograph.\n",
      scores.psnr_empty_photo, scores.psnr_empty_detail, scores.psnr_empty, scores.psnr_round_trip);
  return text;
}

}  // namespace small_editor
