// expect-error: ip2p: OptimiserPolicy needs `std::vector<OptimiserState> state\(\) const`
// expect-lines: 15
#include <ip2p/train/optimiser.hpp>

namespace optimiser_without_state {

struct Forgetful {
  struct Options {};
  Forgetful(std::vector<at::Tensor> parameters, const Options& options);
  void step(double rate);
  void zero_gradients();
#ifdef IP2P_CORRECTED
  std::vector<ip2p::OptimiserState> state() const;
#else
  std::vector<at::Tensor> state() const;
#endif
};

void use() { ip2p::require_optimiser_policy<Forgetful>(); }

}  // namespace optimiser_without_state
