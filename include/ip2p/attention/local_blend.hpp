#pragma once

/// \file
/// Prompt-to-Prompt's local blend, which confines an edit to the regions that its words attend to.

#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ip2p/attention/observed.hpp"
#include "ip2p/core/progress.hpp"

namespace ip2p {

/// Keeps the source's latents wherever neither the source's nor the edited image's words attend (Hertz et al. 2022,
/// section 3.2; `LocalBlend` in google/prompt-to-prompt, which the defaults come from). `prompt_to_prompt` takes it as
/// an option. In your own run, its recorder gets the maps through `Observed` and acts through `RunHooks::revise`:
///
///     const auto blend = ip2p::LocalBlend{.words = {{2}, {2}}}.start();
///     ip2p::Observed attention(ip2p::PromptToPrompt{swap}, blend);
///     hooks.revise = [blend](const ip2p::Step& step, const at::Tensor& x) { return blend->revise(step, x); };
///
/// An image's mask is computed as follows: take the maps of the layers at a quarter of the latents' size (16x16 for 512
/// pixels), summed over its words and averaged over heads, layers and all steps so far; take the maximum of each 3x3
/// neighbourhood; resize to the latents (nearest neighbour); divide by the maximum; threshold. An edited image's mask
/// is the union of its own and its source's. The source is also kept where `subtract` words attend (computed the same
/// way, but without the neighbourhood maximum).
struct LocalBlend {
  /// Token positions of the words that the edit is confined to: one list per image of a group, the source's first.
  std::vector<std::vector<std::int64_t>> words;
  /// Token positions of words whose regions must not be edited, in the same form; empty for none.
  std::vector<std::vector<std::int64_t>> subtract = {};
  double threshold = 0.3;             ///< Relative to the map's maximum; larger values are inside the mask.
  double subtract_threshold = 0.3;    ///< The same for `subtract`.
  double start_blend = 0.2;           ///< Share of the run, from its start, during which nothing is blended.
  std::int64_t max_tokens = 32 * 32;  ///< Maps with more pixels than this are not recorded.

  class Run;

  /// The recorder of one run. Throws `Error` for empty lists, and if `subtract` has a different number of lists.
  [[nodiscard]] std::shared_ptr<Run> start() const;
};

/// Records where the words attend, and blends accordingly.
class LocalBlend::Run {
 public:
  /// Throws `Error` as `start()` does.
  explicit Run(LocalBlend options) : options_(std::move(options)) {
    require(!options_.words.empty(), "LocalBlend: words: expected one list for each image of a group, found none");
    for (std::size_t i = 0; i < options_.words.size(); ++i) {
      require(!options_.words[i].empty(), "LocalBlend: words[{}]: expected token positions, found none", i);
    }
    require(options_.subtract.empty() || options_.subtract.size() == options_.words.size(),
            "LocalBlend: subtract: expected {} lists or none, found {}", options_.words.size(),
            options_.subtract.size());
  }

  /// Whether the map of a site is small enough to be recorded; see `LocalBlend::max_tokens`.
  [[nodiscard]] bool wants(const AttentionSite& site) const { return site.height * site.width <= options_.max_tokens; }

  /// [images, T, 1 or 2]: columns that select the words and, if any, the subtracted words. Throws `Error` if the images
  /// do not divide into groups or a position is out of range.
  [[nodiscard]] at::Tensor columns(std::int64_t images, std::int64_t tokens) const {
    const auto group = static_cast<std::int64_t>(options_.words.size());
    require(images % group == 0, "LocalBlend: expected groups of {} images, found {} images", group, images);
    at::Tensor result = at::zeros({group, tokens, options_.subtract.empty() ? 1 : 2});
    auto value = result.accessor<float, 3>();
    const auto mark = [&](const std::vector<std::vector<std::int64_t>>& lists, std::int64_t column) {
      for (std::size_t i = 0; i < lists.size(); ++i) {
        for (const auto position : lists[i]) {
          require(position >= 0 && position < tokens, "LocalBlend: token: expected 0 ... {}, found {}", tokens - 1,
                  position);
          value[static_cast<std::int64_t>(i)][position][column] = 1.0F;
        }
      }
    };
    mark(options_.words, 0);
    mark(options_.subtract, 1);
    return result.repeat({images / group, 1, 1});
  }

  /// Throws `Error` for a step of another run.
  void record(const AttentionSite& site, const at::Tensor& sums) { maps_.add(site, sums); }

  /// The latents [B,C,h,w] after a step, with the source's restored outside the mask; unchanged in the first part of
  /// the run. Throws `Error` if no maps of the required size were recorded.
  [[nodiscard]] at::Tensor revise(const Step& step, const at::Tensor& latents) {
    maps_.end_step(step.index);
    if (step.index + 1 <= static_cast<std::int64_t>(options_.start_blend * static_cast<double>(step.count)))
      return latents;
    const auto inside = mask(latents.size(2), latents.size(3)).to(latents.device());
    const auto images = latents.unflatten(0, {-1, static_cast<std::int64_t>(options_.words.size())});
    const auto source = images.narrow(1, 0, 1).expand_as(images).flatten(0, 1);
    return at::where(inside, latents, source);
  }

  /// The mask from the maps recorded so far, true where edits are allowed: bool [images, 1, height, width] for latents
  /// of that size.
  [[nodiscard]] at::Tensor mask(std::int64_t height, std::int64_t width) const {
    // Two stride-2 convolutions each halve the size, rounding up.
    const auto maps = maps_.mean((height + 3) / 4, (width + 3) / 4);
    const auto above = [&](at::Tensor map, double threshold) {
      map = at::upsample_nearest2d(map, {height, width});
      map = map / map.amax({2, 3}, true);
      const auto own = (map > threshold).unflatten(0, {-1, static_cast<std::int64_t>(options_.words.size())});
      return own.logical_or(own.narrow(1, 0, 1)).flatten(0, 1);
    };
    auto result = above(at::max_pool2d(maps.narrow(1, 0, 1), {3, 3}, {1, 1}, {1, 1}), options_.threshold);
    if (!options_.subtract.empty()) {
      result = result.logical_and(above(maps.narrow(1, 1, 1), options_.subtract_threshold).logical_not());
    }
    return result;
  }

 private:
  LocalBlend options_;
  detail::RecordedMaps maps_{"LocalBlend"};
};
static_assert(AttentionRecorder<LocalBlend::Run>);

inline std::shared_ptr<LocalBlend::Run> LocalBlend::start() const { return std::make_shared<Run>(*this); }

}  // namespace ip2p
