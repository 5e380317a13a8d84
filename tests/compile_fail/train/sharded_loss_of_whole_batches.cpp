// expect-error: ip2p: ShardedLoss needs a loss that is called as loss\(step, part, parts\)
#include <ip2p/train/sharded_loss.hpp>

struct WholeBatch {
#ifdef IP2P_CORRECTED
  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const;
#else
  at::Tensor operator()(std::int64_t step) const;
#endif
};

ip2p::ShardedLoss<WholeBatch> use(const ip2p::Parameters& parameters) { return {WholeBatch{}, parameters, 2}; }
