#pragma once

/// \file
/// Photographs beside what was made of them, at the size that was asked for.

#include <utility>
#include <vector>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "ip2p/pipeline/run_settings.hpp"

namespace example {

/// The photograph and then its edits: all at the photograph's own size, or at the one at which it was edited.
/// \param edited what the pipeline made of `photo` under `settings`, which are complete
template <class Pipeline>
std::vector<ip2p::Image> photograph_and_edits(const Pipeline& pipeline, const ip2p::Image& photo,
                                              std::vector<ip2p::Image> edited, const ip2p::RunSettings& settings,
                                              bool full_size) {
  std::vector<ip2p::Image> pictures{photo};
  if (full_size) {
    edited = ip2p::at_full_size(pipeline, photo, edited, settings);
  } else {
    pictures = ip2p::tensor_to_images(ip2p::prepare_photos({&photo, 1}, settings.resolution, *settings.numerics),
                                      ip2p::Rounding::nearest);
  }
  pictures.insert(pictures.end(), edited.begin(), edited.end());
  return pictures;
}

}  // namespace example
