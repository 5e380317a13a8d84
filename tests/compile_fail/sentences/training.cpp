// What each axis of training says about a type that lacks something, unless another file here shows it.
// expect-each: ip2p: LearningRatePolicy needs `double operator\(\)\(std::int64_t step\) const`; see docs/reference/concepts.md#learningratepolicy
// expect-each: ip2p: ConditioningDropoutPolicy needs `Dropped drop\(double u\) const`; see docs/reference/concepts.md#conditioningdropoutpolicy
// expect-each: ip2p: LossWeightPolicy needs `double operator\(\)\(double snr, const Preconditioning& prediction\) const`; see docs/reference/concepts.md#lossweightpolicy
// expect-each: ip2p: TrainingLoss needs `Tensor operator\(\)\(std::int64_t step, .*`; see docs/reference/concepts.md#trainingloss
// expect-each: ip2p: OptimiserPolicy needs a copyable type `Options` with defaults; see docs/reference/concepts.md#optimiserpolicy
// expect-each: ip2p: OptimiserPolicy needs a constructor from \(std::vector<Tensor> parameters, Options\); see docs/reference/concepts.md#optimiserpolicy
// expect-each: ip2p: OptimiserPolicy needs `void step\(double rate\)`; see docs/reference/concepts.md#optimiserpolicy
// expect-each: ip2p: OptimiserPolicy needs `void zero_gradients\(\)`; see docs/reference/concepts.md#optimiserpolicy
// expect-each: ip2p: PairSource needs `std::int64_t size\(\)` and `EditPair get\(.*; see docs/reference/concepts.md#pairsource
// expect-each: ip2p: Communicator needs to be copyable; see docs/reference/concepts.md#communicator
// expect-each: ip2p: Communicator needs `std::int64_t rank\(\) const
// expect-each: ip2p: Communicator needs `void broadcast\(const Tensor& tensor, std::int64_t root\) const
// expect-each: ip2p: Communicator needs `void barrier\(\) const
// expect-lines: 170
// expect-lines-clang: 195
#include <ip2p/data/edit_pairs.hpp>
#include <ip2p/parallel/concepts.hpp>
#include <ip2p/train/dropout.hpp>
#include <ip2p/train/learning_rate.hpp>
#include <ip2p/train/loss_weight.hpp>
#include <ip2p/train/optimiser.hpp>
#include <ip2p/train/training_loss.hpp>

#include "../lacking.hpp"

namespace training {

struct Rate {
  LACKING(double operator()(std::int64_t step) const;)
};
struct Dropout {
  LACKING(ip2p::Dropped drop(double u) const;)
};
struct Weight {
  LACKING(double operator()(double snr, const ip2p::Preconditioning& prediction) const;)
};
struct Loss {
  LACKING(at::Tensor operator()(std::int64_t step) const;)
};

struct Options {};
struct OptimiserWithoutOptions {
  LACKING(using Options = training::Options;)
  OptimiserWithoutOptions(std::vector<at::Tensor> parameters, const training::Options& options);
  void step(double rate);
  void zero_gradients();
  std::vector<ip2p::OptimiserState> state() const;
};
struct OptimiserOfNothing {
  using Options = training::Options;
  LACKING(OptimiserOfNothing(std::vector<at::Tensor> parameters, const Options& options);)
  void step(double rate);
  void zero_gradients();
  std::vector<ip2p::OptimiserState> state() const;
};
struct OptimiserWithoutStep {
  using Options = training::Options;
  OptimiserWithoutStep(std::vector<at::Tensor> parameters, const Options& options);
  LACKING(void step(double rate);)
  void zero_gradients();
  std::vector<ip2p::OptimiserState> state() const;
};
struct OptimiserThatKeepsGradients {
  using Options = training::Options;
  OptimiserThatKeepsGradients(std::vector<at::Tensor> parameters, const Options& options);
  void step(double rate);
  LACKING(void zero_gradients();)
  std::vector<ip2p::OptimiserState> state() const;
};

struct Pairs {
  std::int64_t size();
  LACKING(ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);)
};

struct Processes {
  std::int64_t rank() const;
  std::int64_t size() const;
  void broadcast(const at::Tensor& tensor, std::int64_t root) const;
  void all_reduce(const at::Tensor& tensor) const;
  void barrier() const;
};
struct OnlyProcesses : Processes {
  OnlyProcesses() = default;
#ifdef IP2P_CORRECTED
  OnlyProcesses(const OnlyProcesses&) = default;
#else
  OnlyProcesses(const OnlyProcesses&) = delete;
#endif
};
#ifdef IP2P_CORRECTED
using WithoutRank = Processes;
using WithoutBroadcast = Processes;
using WithoutBarrier = Processes;
#else
struct WithoutRank : Processes {
  void rank() const;
};
struct WithoutBroadcast : Processes {
  void broadcast(double number) const;
};
struct WithoutBarrier : Processes {
  void barrier(int how) const;
};
#endif

void use() {
  ip2p::require_learning_rate_policy<Rate>();
  ip2p::require_dropout_policy<Dropout>();
  ip2p::require_loss_weight_policy<Weight>();
  ip2p::require_training_loss<Loss>();
  ip2p::require_optimiser_policy<OptimiserWithoutOptions>();
  ip2p::require_optimiser_policy<OptimiserOfNothing>();
  ip2p::require_optimiser_policy<OptimiserWithoutStep>();
  ip2p::require_optimiser_policy<OptimiserThatKeepsGradients>();
  ip2p::require_pair_source<Pairs>();
  ip2p::require_communicator<OnlyProcesses>();
  ip2p::require_communicator<WithoutRank>();
  ip2p::require_communicator<WithoutBroadcast>();
  ip2p::require_communicator<WithoutBarrier>();
}

}  // namespace training
