#pragma once

/// \file
/// The small editor's training pairs: crops of photographs, their computed edits, encoded once.

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "edits.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "photographs.hpp"

namespace small_editor {

/// Settings of `CachedEdits`.
struct CachedEditsOptions {
  std::int64_t side = 256;     ///< Of the crops, in pixels.
  std::int64_t picture = 256;  ///< Side of the pictures to be edited; see `random_crop`.
  std::int64_t crops = 600;
  std::int64_t unedited = 2;  ///< Of every `families + unedited` pairs, this many are the unchanged photograph with "".
  std::uint64_t seed = 0;
};

/// Pair i is crop i / (families + unedited) with one of its edits. Latents are computed on first use and cached, so
/// an epoch only costs the network. `get` may be called from several threads.
class CachedEdits {
 public:
  CachedEdits(ip2p::KlAutoencoder codec, std::span<const at::Tensor> photographs, CachedEditsOptions options)
      : codec_(std::move(codec)),
        photographs_(photographs),
        options_(options),
        families_(static_cast<std::int64_t>(edit_families().size())),
        cache_(static_cast<std::size_t>(options.crops * (families_ + 1))) {}

  [[nodiscard]] std::int64_t size() const { return options_.crops * (families_ + options_.unedited); }

  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random) {
    const auto slots = families_ + options_.unedited;
    const auto crop = i / slots;
    const auto family = std::min(i % slots, families_);  // `families_` itself stands for the photograph
    const std::scoped_lock lock(locks_[static_cast<std::size_t>(crop) % locks_.size()]);
    const auto condition = moments(crop, families_);
    const auto target = family == families_ ? condition : moments(crop, family);
    std::string instruction;
    if (family < families_) {
      const auto texts = edit_families()[static_cast<std::size_t>(family)].training_texts();
      instruction = texts[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(texts.size())))];
    }
    return {target.mean, target.logvar, condition.mean, std::move(instruction)};
  }

 private:
  ip2p::LatentMoments moments(std::int64_t crop, std::int64_t family) {
    auto& entry = cache_[static_cast<std::size_t>(crop * (families_ + 1) + family)];
    if (entry.mean.defined()) return entry;
    const at::NoGradGuard no_grad;
    ip2p::SampleRandom random(options_.seed, static_cast<std::uint64_t>(crop), 0);
    const auto& photo = photographs_[static_cast<std::size_t>(crop) % photographs_.size()];
    auto picture = random_crop(photo, options_.side, options_.picture, random);
    if (family < families_) picture = edit_families()[static_cast<std::size_t>(family)].apply(picture);
    const auto encoded = codec_.encode_moments((picture * 2 - 1).unsqueeze(0));
    entry = {encoded.mean.squeeze(0).contiguous(), encoded.logvar.squeeze(0).contiguous()};
    return entry;
  }

  ip2p::KlAutoencoder codec_;
  std::span<const at::Tensor> photographs_;
  CachedEditsOptions options_;
  std::int64_t families_;
  std::vector<ip2p::LatentMoments> cache_;
  std::array<std::mutex, 64> locks_;
};

}  // namespace small_editor
