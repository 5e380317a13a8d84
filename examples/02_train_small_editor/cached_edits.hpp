#pragma once

/// \file
/// The small editor's training pairs: crops of photographs, their computed edits, encoded once.

#include <ATen/ops/full_like.h>

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "edits.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "photographs.hpp"
#include "reworded.hpp"
#include "variations.hpp"

namespace small_editor {

/// Settings of `CachedEdits`.
struct CachedEditsOptions {
  std::int64_t side = 256;     ///< Of the crops, in pixels.
  std::int64_t picture = 256;  ///< Side of the pictures to be edited; see `random_crop`.
  std::int64_t crops = 600;
  std::int64_t varied = 8;    ///< Variations of each crop, of all kinds in turn, beside the plain edits.
  std::int64_t unedited = 3;  ///< Of a crop's pairs, this many are the unchanged photograph with "".
  std::uint64_t seed = 0;
};

/// Pair i is crop i / slots with one of its edits, where a crop has a slot for each family, then for each variation and
/// each unedited pair. Latents are computed on first use and cached, so an epoch only costs the network. `get` may be
/// called from several threads.
class CachedEdits {
 public:
  CachedEdits(ip2p::DcAutoencoder codec, std::span<const at::Tensor> photographs, CachedEditsOptions options)
      : codec_(std::move(codec)),
        photographs_(photographs),
        options_(options),
        families_(static_cast<std::int64_t>(edit_families().size())),
        edits_(families_ + options.varied),
        cache_(static_cast<std::size_t>(options.crops * (edits_ + 1))) {}

  [[nodiscard]] std::int64_t size() const { return options_.crops * (edits_ + options_.unedited); }

  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random) {
    const auto slots = edits_ + options_.unedited;
    const auto crop = i / slots;
    const auto edit = std::min(i % slots, edits_);  // `edits_` itself stands for the photograph
    const std::scoped_lock lock(locks_[static_cast<std::size_t>(crop) % locks_.size()]);
    const auto condition = latents(crop, edits_);
    const auto target = edit == edits_ ? condition : latents(crop, edit);
    std::string instruction;
    if (edit < families_) {
      instruction = random_phrasing(edit_families()[static_cast<std::size_t>(edit)], false, random);
    } else if (edit < edits_) {
      instruction = random_text(variation(crop, edit), false, random);
    }
    // The smallest variance that moments of latents have: these are certain.
    return {target, at::full_like(target, ip2p::LatentMoments::least_logvar), condition, std::move(instruction)};
  }

 private:
  [[nodiscard]] VariedEdit variation(std::int64_t crop, std::int64_t edit) const {
    ip2p::SampleRandom random(options_.seed, static_cast<std::uint64_t>(crop), static_cast<std::uint64_t>(edit) + 1);
    return random_variation(variations[static_cast<std::size_t>(edit - families_) % variations.size()].first, random);
  }

  at::Tensor latents(std::int64_t crop, std::int64_t edit) {
    auto& entry = cache_[static_cast<std::size_t>(crop * (edits_ + 1) + edit)];
    if (entry.defined()) return entry;
    const at::NoGradGuard no_grad;
    ip2p::SampleRandom random(options_.seed, static_cast<std::uint64_t>(crop), 0);
    const auto& photo = photographs_[static_cast<std::size_t>(crop) % photographs_.size()];
    auto picture = random_crop(photo, options_.side, options_.picture, random);
    if (edit < families_) {
      picture = edit_families()[static_cast<std::size_t>(edit)].apply(picture);
    } else if (edit < edits_) {
      picture = variation(crop, edit).apply(picture);
    }
    entry = codec_.encode((picture * 2 - 1).unsqueeze(0)).squeeze(0).contiguous();
    return entry;
  }

  ip2p::DcAutoencoder codec_;
  std::span<const at::Tensor> photographs_;
  CachedEditsOptions options_;
  std::int64_t families_, edits_;
  std::vector<at::Tensor> cache_;
  std::array<std::mutex, 64> locks_;
};

}  // namespace small_editor
