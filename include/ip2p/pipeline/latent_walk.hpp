#pragma once

/// \file
/// A walk between two pictures: runs whose start noise is interpolated between two seeds.

#include <ATen/ops/cat.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Spherical interpolation of Gaussian noise (Shoemake 1985), per row of [B, ...]: intermediate tensors keep the norm
/// of noise, unlike linear interpolation. \param share 0 gives `a`, 1 gives `b` \throws Error for shapes that differ or
/// a share outside [0, 1]
inline at::Tensor slerp(const at::Tensor& a, const at::Tensor& b, double share) {
  require(a.sizes() == b.sizes() && a.dim() >= 1, "slerp: expected noise of one shape, found {} and {}",
          shape_text(a.sizes()), shape_text(b.sizes()));
  require(share >= 0.0 && share <= 1.0, "slerp: expected a share in [0, 1], found {}", share);
  const auto x = a.to(at::kDouble).flatten(1);
  const auto y = b.to(a.device(), at::kDouble).flatten(1);
  const auto cosine = x.mul(y).sum(1, true).div(x.norm(2, {1}, true).mul(y.norm(2, {1}, true))).clamp(-1.0, 1.0);
  const auto angle = cosine.acos();
  const auto sine = angle.sin();
  // If both point the same way, the arc degenerates to a line.
  const auto line = sine.abs().lt(1e-6);
  const auto safe = sine.masked_fill(line, 1.0);
  const auto from = angle.mul(1.0 - share).sin().div(safe).masked_fill(line, 1.0 - share);
  const auto to = angle.mul(share).sin().div(safe).masked_fill(line, share);
  return x.mul(from).add(y.mul(to)).view(a.sizes()).to(a.scalar_type());
}

/// A walk from one seed to another: `frames` pictures of one prompt whose start noise moves along the arc between the
/// seeds' noises. With a deterministic sampler adjacent frames look alike.
/// \param pipeline a `TextToImagePipeline`  \param settings their seed starts the walk  \param frames >= 2
/// \param make_noise makes a noise source from the seeds of a batch
/// \throws Error as the pipeline does
template <class Pipeline, class MakeNoise = std::remove_const_t<decltype(torch_noise)>>
[[nodiscard]] std::vector<Image> latent_walk(const Pipeline& pipeline, const std::string& prompt, std::uint64_t to_seed,
                                             std::int64_t frames, RunSettings settings = {},
                                             const MakeNoise& make_noise = {}) {
  require(frames >= 2, "latent_walk: expected at least 2 frames, found {}", frames);
  const auto shape = pipeline.latent_shape(1, picture_size(pipeline.completed(settings)));
  const auto start_of = [&](std::uint64_t seed) { return make_noise({seed}).normal(shape, 0); };
  const auto from = start_of(settings.seed);
  const auto to = start_of(to_seed);
  std::vector<Image> images;
  for (std::int64_t i = 0; i < frames; ++i) {
    settings.latents = slerp(from, to, static_cast<double>(i) / static_cast<double>(frames - 1));
    auto noise = make_noise({settings.seed});
    images.push_back(std::move(pipeline.run({&prompt, 1}, settings, noise).images.front()));
  }
  return images;
}

}  // namespace ip2p
