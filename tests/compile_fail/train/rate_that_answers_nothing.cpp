// expect-error: ip2p: LearningRatePolicy needs `double operator\(\)\(std::int64_t step\) const`
#include <ip2p/train/trainer.hpp>

namespace rate_that_answers_nothing {

struct Rate {
#ifdef IP2P_CORRECTED
  double operator()(std::int64_t step) const;
#else
  void operator()(std::int64_t step) const;
#endif
};

void use(const ip2p::Parameters& parameters, at::Tensor (*loss)(std::int64_t)) {
  ip2p::Trainer trainer(parameters, loss, Rate{}, {.folder = "training"});
  trainer.run(10);
}

}  // namespace rate_that_answers_nothing
