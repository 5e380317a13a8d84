#pragma once

/// \file
/// What the decoder is fitted to: the editor's own results, with the pictures that they should have become.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "edits.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/pipeline/run_settings.hpp"
#include "photographs.hpp"
#include "reworded.hpp"
#include "variations.hpp"

namespace small_editor {

/// Settings of `EditorResults`.
struct EditorResultsOptions {
  std::int64_t picture = 256;  ///< Side of the edited pictures, in pixels.
  std::int64_t crops = 168;
  std::int64_t edits = 24;  ///< Of each crop: half plain, a third varied, a sixth unedited with "".
  std::uint64_t seed = 0;
};

/// Latents of one crop's results with their targets. The last of both is the photograph itself, encoded.
struct CropResults {
  at::Tensor latents;           ///< fp16 [n,C,h,w], not scaled.
  at::Tensor targets;           ///< uint8 [n,3,H,W].
  std::vector<float> edited{};  ///< 1 where the target is an edit, 0 where it is the photograph. [n]
};

/// Crops of photographs, edited by the editor on first use and kept. `get` may be called from several threads.
template <class Pipeline>
class EditorResults {
 public:
  /// \param pipeline the editor; used as it is at each crop's first use  \param photographs uint8 [3,H,W] each
  EditorResults(const Pipeline& pipeline, std::span<const at::Tensor> photographs, EditorResultsOptions options)
      : pipeline_(pipeline),
        photographs_(photographs),
        options_(options),
        cache_(static_cast<std::size_t>(options.crops)) {}

  [[nodiscard]] std::int64_t size() const { return options_.crops; }

  const CropResults& get(std::int64_t crop) {
    const std::scoped_lock lock(locks_[static_cast<std::size_t>(crop) % locks_.size()]);
    auto& entry = cache_[static_cast<std::size_t>(crop)];
    if (!entry.latents.defined()) entry = edited(crop);
    return entry;
  }

 private:
  [[nodiscard]] CropResults edited(std::int64_t crop) const {
    const at::NoGradGuard no_grad;
    ip2p::SampleRandom random(options_.seed, static_cast<std::uint64_t>(crop), 0);
    const auto& photo = photographs_[static_cast<std::size_t>(crop) % photographs_.size()];
    const auto picture = random_crop(photo, options_.picture, options_.picture, random);
    std::vector<std::string> instructions;
    std::vector<at::Tensor> targets;
    std::vector<std::uint64_t> seeds;
    std::vector<float> edited;
    for (std::int64_t i = 0; i < options_.edits; ++i) {
      const auto kind = i % 6;
      if (kind == 0) {
        instructions.emplace_back();
        targets.push_back(picture);
      } else if (kind < 3) {
        const auto edit = random_variation(variations[detail::draw(variations.size(), random)].first, random);
        instructions.push_back(random_text(edit, false, random));
        targets.push_back(edit.apply(picture));
      } else {
        const auto& family = edit_families()[detail::draw(edit_families().size(), random)];
        instructions.push_back(random_phrasing(family, false, random));
        targets.push_back(family.apply(picture));
      }
      edited.push_back(kind == 0 ? 0.0F : 1.0F);
      seeds.push_back(options_.seed + static_cast<std::uint64_t>(crop * options_.edits + i));
    }
    targets.push_back(picture);
    edited.push_back(0.0F);
    const auto image = (picture * 2 - 1).unsqueeze(0);
    ip2p::TorchNoise noise(seeds);
    const auto results =
        pipeline_.sample(image, instructions, {.steps = 2}, noise) / pipeline_.codec().scaling_factor();
    return {at::cat({results, pipeline_.codec().encode(image)}).to(at::kHalf),
            (at::stack(targets) * 255).round().clamp(0, 255).to(at::kByte), std::move(edited)};
  }

  const Pipeline& pipeline_;
  std::span<const at::Tensor> photographs_;
  EditorResultsOptions options_;
  std::vector<CropResults> cache_;
  std::array<std::mutex, 64> locks_;
};

}  // namespace small_editor
