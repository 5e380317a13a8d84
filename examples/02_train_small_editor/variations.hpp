#pragma once

/// \file
/// What instructions say beside the name of an edit: how strongly, where in the picture, and what else to do.

#include <ATen/ops/linspace.h>

#include <fmt/format.h>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "edits.hpp"
#include "ip2p/core/sample_random.hpp"
#include "reworded.hpp"

namespace small_editor {

/// The kinds of variations, in the order in which tables name them.
enum class Variation { slight, strong, local, both };

/// All kinds, with their names in tables.
inline constexpr std::array<std::pair<Variation, std::string_view>, 4> variations{{{Variation::slight, "slightly"},
                                                                                   {Variation::strong, "very"},
                                                                                   {Variation::local, "one part"},
                                                                                   {Variation::both, "two edits"}}};

/// A part of the picture: a soft mask computed from it, and how people name it.
struct Region {
  std::string_view name;
  /// [3,H,W] RGB in [0,1] -> [1,H,W] in [0,1]: 1 where the edit applies.
  at::Tensor (*mask)(const at::Tensor& rgb);
  /// Patterns with {} for the instruction: the first `train_patterns` are trained on.
  std::array<std::string_view, 4> patterns;
};

/// Patterns of each kind that are trained on; the last is kept for measurement.
inline constexpr std::size_t train_patterns = 3;

namespace detail {

/// Soft halves: 0.12 is how much of the picture the border between them takes.
inline at::Tensor half(const at::Tensor& positions) { return (positions / 0.12).sigmoid(); }

inline at::Tensor down(const at::Tensor& rgb) { return at::linspace(-1, 1, rgb.size(1)).view({1, -1, 1}); }
inline at::Tensor right(const at::Tensor& rgb) { return at::linspace(-1, 1, rgb.size(2)).view({1, 1, -1}); }

inline at::Tensor whole(const at::Tensor& mask, const at::Tensor& rgb) {
  return mask.expand({1, rgb.size(1), rgb.size(2)});
}

inline at::Tensor upper_half(const at::Tensor& rgb) { return whole(half(-down(rgb)), rgb); }
inline at::Tensor lower_half(const at::Tensor& rgb) { return whole(half(down(rgb)), rgb); }
inline at::Tensor left_half(const at::Tensor& rgb) { return whole(half(-right(rgb)), rgb); }
inline at::Tensor right_half(const at::Tensor& rgb) { return whole(half(right(rgb)), rgb); }

inline at::Tensor middle(const at::Tensor& rgb) { return ((0.62 - eccentricity(rgb)) / 0.07).sigmoid(); }

/// Where it is bright or blue, smooth, and high up.
inline at::Tensor sky(const at::Tensor& rgb) {
  const auto radius = std::max<std::int64_t>(1, rgb.size(2) / 64);
  const auto grey = luma(rgb);
  const auto soft = blur(grey, radius);
  const auto texture = blur((grey - soft).abs(), radius);
  const auto blueness = rgb.narrow(0, 2, 1) - rgb.narrow(0, 0, 1);
  const auto likely = (soft - 0.5) * 7 + blur(blueness, radius) * 9 - texture * 40 - (down(rgb) + 0.1) * 5;
  return blur(likely.sigmoid(), radius);
}

}  // namespace detail

/// All regions.
inline const std::vector<Region>& regions() {
  static const std::vector<Region> all = {
      {"sky", &detail::sky, {"{} only in the sky", "{}, but only the sky", "in the sky, {}", "only in the sky, {}"}},
      {"upper half",
       &detail::upper_half,
       {"{} only in the upper half", "{}, but only the upper half", "in the upper half, {}",
        "only in the upper half, {}"}},
      {"lower half",
       &detail::lower_half,
       {"{} only in the lower half", "{}, but only the lower half", "in the lower half, {}",
        "only in the lower half, {}"}},
      {"left side",
       &detail::left_half,
       {"{} only on the left side", "{}, but only the left side", "on the left side, {}", "only on the left side, {}"}},
      {"right side",
       &detail::right_half,
       {"{} only on the right side", "{}, but only the right side", "on the right side, {}",
        "only on the right side, {}"}},
      {"middle",
       &detail::middle,
       {"{} only in the middle", "{}, but only the middle", "in the middle, {}", "only in the middle, {}"}},
  };
  return all;
}

/// One or two edits of the list of families, varied.
struct VariedEdit {
  Variation kind = Variation::slight;
  std::size_t first = 0;   ///< Index into `edit_families()`.
  std::size_t second = 0;  ///< The same, of the edit that follows (`Variation::both`).
  std::size_t region = 0;  ///< Index into `regions()` (`Variation::local`).

  /// [3,H,W] RGB in [0,1] -> the same; pure.
  [[nodiscard]] at::Tensor apply(const at::Tensor& rgb) const {
    const auto edited = edit_families()[first].apply(rgb);
    switch (kind) {
      case Variation::slight:
        return rgb + (edited - rgb) * 0.5;
      case Variation::strong:
        return detail::unit(rgb + (edited - rgb) * 1.4);
      case Variation::local:
        return rgb + (edited - rgb) * regions()[region].mask(rgb);
      case Variation::both:
        return edit_families()[second].apply(edited);
    }
    return edited;
  }

  /// What a model that misses the variation would give: the photograph, the plain edits, and the same edit varied
  /// otherwise.
  [[nodiscard]] std::vector<at::Tensor> mistaken(const at::Tensor& rgb) const {
    std::vector<at::Tensor> all{rgb, edit_families()[first].apply(rgb)};
    if (kind == Variation::both) all.push_back(edit_families()[second].apply(rgb));
    if (kind == Variation::local) {
      for (std::size_t other = 0; other < regions().size(); ++other) {
        if (other != region) all.push_back(VariedEdit{kind, first, second, other}.apply(rgb));
      }
    }
    return all;
  }
};

namespace detail {

inline constexpr std::string_view command = "make it ";

/// Edits that can be made stronger.
inline constexpr std::array<std::string_view, 16> strengthened{
    "winter", "night",  "sunset", "fog",   "underwater", "brighter", "darker", "faded",
    "vivid",  "warmer", "cooler", "storm", "vintage",    "desert",   "autumn", "teal and orange"};

/// Edits that are asked for on top of others: none that would hide what came before.
inline constexpr std::array<std::string_view, 10> following{
    "fog", "brighter", "darker", "warmer", "cooler", "faded", "vignette", "negative", "vivid", "blurred background"};

inline std::size_t family_named(std::string_view name) {
  const auto& families = edit_families();
  const auto found = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  ip2p::require(found != families.end(), "edits: expected the name of an edit, found '{}'", name);
  return static_cast<std::size_t>(found - families.begin());
}

}  // namespace detail

/// A variation of the given kind, at random.
inline VariedEdit random_variation(Variation kind, ip2p::SampleRandom& random) {
  const auto& families = edit_families();
  VariedEdit edit{.kind = kind, .first = detail::draw(families.size(), random)};
  if (kind == Variation::strong) {
    edit.first = detail::family_named(detail::strengthened[detail::draw(detail::strengthened.size(), random)]);
  }
  if (kind == Variation::local) edit.region = detail::draw(regions().size(), random);
  if (kind == Variation::both) {
    do {
      edit.second = detail::family_named(detail::following[detail::draw(detail::following.size(), random)]);
    } while (edit.second == edit.first);
  }
  return edit;
}

/// An instruction for it, at random. \param held_out of phrasings and patterns that are never trained on
inline std::string random_text(const VariedEdit& edit, bool held_out, ip2p::SampleRandom& random) {
  const auto phrasing = [&](std::size_t family) { return random_phrasing(edit_families()[family], held_out, random); };
  const auto pattern = [&](const std::array<std::string_view, 4>& patterns, std::string_view text) {
    return fmt::format(
        fmt::runtime(held_out ? patterns[train_patterns] : patterns[detail::draw(train_patterns, random)]), text);
  };
  const auto is_command = [](std::string_view text) { return text.starts_with(detail::command); };
  const auto text = phrasing(edit.first);
  const auto rest = is_command(text) ? text.substr(detail::command.size()) : text;
  const bool inserts = is_command(text) && random.uniform() < 0.5;  // "make it slightly darker"
  switch (edit.kind) {
    case Variation::slight:
      if (inserts)
        return pattern({"make it slightly {}", "make it a bit {}", "make it a little {}", "make it just slightly {}"},
                       rest);
      return pattern({"{}, but only slightly", "{} a little", "slightly: {}", "{}, but just a little"}, text);
    case Variation::strong:
      if (inserts)
        return pattern({"make it very {}", "make it really {}", "make it extremely {}", "make it really very {}"},
                       rest);
      return pattern({"{}, very strongly", "{}, and make it strong", "very much: {}", "{}, and very strong"}, text);
    case Variation::local:
      return pattern(regions()[edit.region].patterns, text);
    case Variation::both:
      break;
  }
  const auto next = phrasing(edit.second);
  if (is_command(text) && is_command(next) && random.uniform() < 0.7) {
    return fmt::format("{} and {}", text, next.substr(detail::command.size()));  // "make it autumn and foggy"
  }
  if (held_out) return fmt::format("first {} and then {}", text, next);
  return random.uniform() < 0.5 ? fmt::format("{} and {}", text, next) : fmt::format("{}, then {}", text, next);
}

}  // namespace small_editor
