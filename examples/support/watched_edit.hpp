#pragma once

/// \file
/// Runs of an editor that are watched row by row: previews of the results, and rows that are given up.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "ip2p/core/any_noise.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/pipeline/open_model.hpp"

namespace example {

/// What is done between the steps of a run, for each of its rows.
struct RowWatch {
  /// Steps between previews; 0: none.
  std::int64_t preview_every = 0;
  /// Gets what a row looks like so far, as a linear map decodes it from the denoiser's estimate, at the size of the
  /// photographs (`ip2p::LinearPreview`).
  std::function<void(std::size_t row, ip2p::Image picture)> show = {};
  /// Asked before each step. A row that is not wanted any more is left out of the network's evaluations from there on,
  /// and its latents mean nothing; the others stay as they would have been. Empty: all are.
  std::function<bool(std::size_t row)> wanted = {};
};

/// As the pipeline's own run of these parts. \param pictures [1 or B,3,H,W], of which previews learn their colours
/// \param image_latents [1 or B,C,h,w] of the pictures  \param conditioning texts [B,tokens,D]; its image is ignored
/// \return latents [B,C,h,w] on the CPU  \throws Cancelled where no row is wanted any more; Error as the pipeline
at::Tensor run_watched(const ip2p::Editor& edit, const at::Tensor& pictures, const at::Tensor& image_latents,
                       ip2p::Conditioning conditioning, const at::Tensor& start_noise,
                       const ip2p::RunSettings& settings, ip2p::AnyNoise& noise, const RowWatch& watch);

}  // namespace example
