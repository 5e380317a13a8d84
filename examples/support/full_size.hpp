#pragma once

/// \file
/// Photographs beside what was made of them, at the size that was asked for.

#include <utility>
#include <vector>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/run_settings.hpp"

namespace example {

/// The photograph and then its edits: all at the photograph's own size, or at the one at which it was edited.
/// \param edited what the pipeline made of `fitted.image` under `settings`, which are complete
template <class Pipeline>
std::vector<ip2p::Image> photograph_and_edits(const Pipeline& pipeline, const ip2p::Image& photo,
                                              const ip2p::FittedPhoto& fitted, std::vector<ip2p::Image> edited,
                                              const ip2p::RunSettings& settings, bool full_size) {
  std::vector<ip2p::Image> pictures{full_size ? photo : ip2p::own_part(fitted, fitted.image)};
  if (full_size) {
    edited = ip2p::at_full_size(pipeline, photo, fitted, edited, settings);
  } else {
    for (auto& picture : edited) picture = ip2p::own_part(fitted, picture);
  }
  pictures.insert(pictures.end(), edited.begin(), edited.end());
  return pictures;
}

}  // namespace example
