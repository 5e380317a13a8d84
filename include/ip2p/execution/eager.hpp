#pragma once

/// \file
/// Execution at once.

#include <vector>

#include "ip2p/execution/concepts.hpp"

namespace ip2p {

/// Does all work when it is asked for: the null object of its role, and the default of every pipeline.
struct Eager {
  /// What `evaluation.body` returns for the inputs.
  [[nodiscard]] std::vector<at::Tensor> evaluate(const Evaluation& evaluation) const {
    return evaluation.body(evaluation.inputs);
  }
};
static_assert(ExecutionPolicy<Eager>);

}  // namespace ip2p
