// What each axis of the tensor tier says about a type that lacks something, unless another file here shows it.
// expect-each: ip2p: SchedulePolicy must be copyable; see docs/reference/concepts.md#schedulepolicy
// expect-each: ip2p: SamplerPolicy must be copyable; see docs/reference/concepts.md#samplerpolicy
// expect-each: ip2p: GuidancePolicy must be copyable; see docs/reference/concepts.md#guidancepolicy
// expect-each: ip2p: SelectiveGuidancePolicy needs `std::array<bool, K> needs\(const Step&\) const`; see docs/reference/concepts.md#guidancepolicy
// expect-each: ip2p: PredictionPolicy needs `Preconditioning preconditioning\(double sigma\) const` .*; see docs/reference/concepts.md#predictionpolicy
// expect-each: ip2p: PairFilter must be copyable; see docs/reference/concepts.md#pairfilter
// expect-each: ip2p: PairFilter needs its cost as `static constexpr FilterCost cost
// expect-lines: 95
// expect-lines-clang: 145
#include <ip2p/filter/concepts.hpp>
#include <ip2p/guidance/concepts.hpp>
#include <ip2p/sampling/denoiser.hpp>

namespace sampling {

struct Once {
  Once() = default;
#ifdef IP2P_CORRECTED
  Once(const Once&) = default;
#else
  Once(const Once&) = delete;
#endif
};

struct Schedule : Once {
  std::vector<double> sigmas(std::int64_t n) const;
  double sigma_to_t(double sigma) const;
};

struct Sampler : Once {
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const ip2p::RunHooks& hooks = {}) const;
};

struct Guidance : Once {
  static constexpr std::array<ip2p::Branch, 1> branches{ip2p::Branch{true, true}};
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;
};

struct Selective {
  static constexpr std::array<ip2p::Branch, 2> branches{ip2p::Branch{true, true}, ip2p::Branch{false, false}};
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;
#ifdef IP2P_CORRECTED
  std::array<bool, 2> needs(const ip2p::Step& step) const;
#else
  bool needs(const ip2p::Step& step) const;
#endif
};

struct Prediction {
#ifdef IP2P_CORRECTED
  ip2p::Preconditioning preconditioning(double sigma) const;
#else
  double preconditioning(double sigma) const;
#endif
};

struct Filter : Once {
  ip2p::Verdict operator()(const ip2p::CandidatePair& pair) const;
};

struct Costly {
#ifdef IP2P_CORRECTED
  static constexpr auto cost = ip2p::FilterCost::pixels;
#else
  static constexpr int cost = 3;
#endif
  ip2p::Verdict operator()(const ip2p::CandidatePair& pair) const;
};

void use() {
  ip2p::require_schedule_policy<Schedule>();
  ip2p::require_sampler_policy<Sampler>();
  ip2p::require_guidance_policy<Guidance>();
  ip2p::require_guidance_policy<Selective>();
  ip2p::require_prediction_policy<Prediction>();
  ip2p::require_pair_filter<Filter>();
  ip2p::require_pair_filter<Costly>();
}

}  // namespace sampling
