// expect-error: ip2p: TrainingLoss needs `Tensor operator\(\)\(std::int64_t step, std::int64_t part, std::int64_t parts\)
#include <ip2p/train/trainer.hpp>

namespace loss_that_answers_a_number {

struct Loss {
#ifdef IP2P_CORRECTED
  at::Tensor operator()(std::int64_t step) const;
#else
  double operator()(std::int64_t step) const;
#endif
};

void use(const ip2p::Parameters& parameters) {
  ip2p::Trainer trainer(parameters, Loss{}, ip2p::ConstantRate{}, {.folder = "training"});
  trainer.run(10);
}

}  // namespace loss_that_answers_a_number
