#pragma once

/// \file
/// An execution policy of any type, chosen at run time.

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/execution/concepts.hpp"
#include "ip2p/execution/eager.hpp"

namespace ip2p {

/// Holds any `ExecutionPolicy` by value and is one itself; `Eager` unless given another.
class AnyExecution {
 public:
  /// Takes any policy. Implicit, so that a policy can be assigned wherever an `AnyExecution` is.
  template <class Execution = Eager>
  requires(!std::same_as<std::remove_cvref_t<Execution>, AnyExecution>)
      AnyExecution(Execution execution = {})  // NOLINT(google-explicit-constructor)
      : evaluate_([execution = std::move(execution)](const Evaluation& evaluation) {
          require_execution_policy<Execution>();
          return execution.evaluate(evaluation);
        }) {}

  /// As the policy held.
  [[nodiscard]] std::vector<at::Tensor> evaluate(const Evaluation& evaluation) const { return evaluate_(evaluation); }

 private:
  std::function<std::vector<at::Tensor>(const Evaluation&)> evaluate_;
};
static_assert(ExecutionPolicy<AnyExecution>);

}  // namespace ip2p
