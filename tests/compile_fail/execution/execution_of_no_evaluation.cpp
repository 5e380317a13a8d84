// expect-error: ip2p: ExecutionPolicy needs `std::vector<Tensor> evaluate\(const Evaluation&\) const`; see docs/reference/concepts.md#executionpolicy
#include <ip2p/execution/any_execution.hpp>
#include <vector>

namespace execution_of_no_evaluation {

struct Later {
#ifdef IP2P_CORRECTED
  std::vector<at::Tensor> evaluate(const ip2p::Evaluation& evaluation) const {
    return evaluation.body(evaluation.inputs);
  }
#else
  at::Tensor evaluate(const ip2p::Evaluation& evaluation) const { return evaluation.inputs.front(); }
#endif
};

void use() { ip2p::require_execution_policy<Later>(); }

}  // namespace execution_of_no_evaluation
