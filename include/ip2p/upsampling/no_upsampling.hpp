#pragma once

/// \file
/// The model's own picture.

#include "ip2p/upsampling/concepts.hpp"

namespace ip2p {

/// Gives the edited picture at the model's size.
struct NoUpsampling {
  static constexpr bool reads_before = false;  ///< No round trip is computed.
  static constexpr bool enlarges = false;      ///< The result has the model's size.
  /// `edit.after`. \throws Error as `require_model_edit`
  Image operator()(const Image& photo, const ModelEdit& edit) const {
    require_model_edit(photo, edit, reads_before);
    return edit.after;
  }
};
static_assert(UpsamplingPolicy<NoUpsampling>);

}  // namespace ip2p
