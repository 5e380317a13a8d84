// expect-error: ip2p: NetworkDenoiser needs a network `Tensor\(const Tensor& x, double t, const Step& step\)` or
// expect-lines: 15
// expect-lines-clang: 20
#include <ip2p/sampling/denoiser.hpp>

namespace network_of_whole_numbers {

struct Schedule {
  std::vector<double> sigmas(std::int64_t n) const;
  double sigma_to_t(double sigma) const;
};

#ifdef IP2P_CORRECTED
at::Tensor network(const at::Tensor& x, double t);
#else
at::Tensor network(const at::Tensor& x, const at::Tensor& t);
#endif

at::Tensor use(const at::Tensor& x) { return ip2p::NetworkDenoiser(network, Schedule{})(x, ip2p::Step{}); }

}  // namespace network_of_whole_numbers
