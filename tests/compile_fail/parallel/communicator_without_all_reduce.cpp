// expect-error: ip2p: Communicator needs `void all_reduce\(const Tensor& tensor\) const`
// expect-lines: 15
#include <ip2p/parallel/concepts.hpp>

namespace communicator_without_all_reduce {

struct Deaf {
  std::int64_t rank() const;
  std::int64_t size() const;
  void broadcast(const at::Tensor& tensor, std::int64_t root) const;
#ifdef IP2P_CORRECTED
  void all_reduce(const at::Tensor& tensor) const;
#else
  double all_reduce(double number) const;
#endif
  void barrier() const;
};

void use() { ip2p::require_communicator<Deaf>(); }

}  // namespace communicator_without_all_reduce
