#include "ip2p/testing/conformance.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <memory>
#include <numbers>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/schedule/karras_sigmas.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law: every type below keeps all laws of its role but one.

namespace {

using namespace ip2p;
using testing::check_guidance;
using testing::check_noise;
using testing::check_optimiser;
using testing::check_sampler;
using testing::check_schedule;

struct FadingGuidance {
  static constexpr auto branches = DualGuidance::branches;
  double image_scale = 1.5, text_scale = 7.5;
  at::Tensor combine(const at::Tensor& stacked, const Step& step) const {
    const double fade = std::cos(step.progress() * std::numbers::pi / 2);
    return DualGuidance{image_scale, text_scale * fade}.combine(stacked, step);
  }
};
static_assert(GuidancePolicy<FadingGuidance> && !LinearGuidancePolicy<FadingGuidance>);

enum class Defect {
  none,
  residue,
  impure,
  changes_x,
  silent,
  deaf,
  trusting,
  last_noise,
  wrong_steps,
  forgets_dtype,
  batch_noise,
  shapeless,
  unrevised,
  old_sigma,
  told_next_sigma,
  told_first_step,
  first_draw,
  draws_twice
};

/// An Euler sampler with one defect.
struct FlawedSampler {
  Defect defect;
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    static int calls = 0;
    if (defect != Defect::trusting) require_run(x, sigmas);
    if (defect == Defect::changes_x) x.add_(0.5);
    for (const Step& step : steps_of(sigmas)) {
      if (defect != Defect::deaf) hooks.check(step);
      if (defect == Defect::old_sigma || defect == Defect::none) {
        x = heun_step(denoiser, x, step);
      } else {
        Step seen = step;
        if (defect == Defect::told_next_sigma && step.sigma_next > 0.0) seen.sigma = step.sigma_next;
        if (defect == Defect::told_first_step) seen.index = 0;
        at::Tensor x0 = defect == Defect::shapeless ? denoiser(x, step) : estimate_x0(denoiser, x, seen);
        if (defect == Defect::shapeless) x0 = x0.expand_as(x);
        const bool ancestral = defect == Defect::first_draw || defect == Defect::draws_twice;
        const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, ancestral ? 1.0 : 0.0);
        x = euler_step(x, x0, step.sigma, down);
        if (defect == Defect::first_draw && up > 0.0) x = x.add(rng.normal(x.sizes(), 1).to(x.options()), up);
        if (defect == Defect::draws_twice && up > 0.0) {
          x = x.add(step_noise(rng, x, step), up * 0.6).add(step_noise(rng, x, step), up * 0.8);
        }
      }
      if (defect == Defect::last_noise) x = x.add(step_noise(rng, x, step), 0.01);
      if (defect == Defect::impure) x = x.mul(1.0 + 1e-6 * ++calls);
      if (defect == Defect::batch_noise) x = x.add(x.mean(), step.sigma_next * 0.1);
      Step told = step;
      if (defect == Defect::wrong_steps) told.sigma = told.sigma_next;
      if (defect == Defect::unrevised) {
        if (hooks.on_step) hooks.on_step(told, x);
      } else if (defect != Defect::silent) {
        x = hooks.finish(told, x);
      }
    }
    if (defect == Defect::residue) x = x.mul(1.001);
    if (defect == Defect::forgets_dtype) x = x.to(at::kFloat);
    return x;
  }

 private:
  /// Karras et al. 2022, algorithm 1, whose second evaluation is at the next noise level.
  template <class Denoiser>
  at::Tensor heun_step(Denoiser& denoiser, const at::Tensor& x, const Step& step) const {
    const auto first = ode_derivative(x, estimate_x0(denoiser, x, step), step.sigma);
    const auto next = x.add(first, step.sigma_next - step.sigma);
    if (step.sigma_next == 0.0) return next;
    const auto told = defect == Defect::old_sigma ? step : evaluated_at(step, step.sigma_next);
    const auto second = ode_derivative(next, estimate_x0(denoiser, next, told), step.sigma_next);
    return x.add(first.add(second), 0.5 * (step.sigma_next - step.sigma));
  }
};

template <class Check>
void require_broken(Check check, const std::string& law) {
  REQUIRE_THROWS_WITH(check(), Catch::Matchers::Contains(law));
}

struct FlawedSchedule {
  std::vector<double> (*levels)(std::int64_t);
  double slope = 1.0;
  std::vector<double> sigmas(std::int64_t n) const { return levels(n); }
  double sigma_to_t(double sigma) const { return slope * sigma; }
};

template <int Flaw>
struct FlawedGuidance {
  static constexpr auto branches = Flaw == 7 ? std::array<Branch, 2>{Branch{false, true}, Branch{true, true}}
                                             : std::array<Branch, 2>{Branch{true, true}, Branch{false, false}};
  double scale = 3.0;
  at::Tensor combine(const at::Tensor& stacked, const Step&) const {
    const auto [full, null] = detail::split_branches<2>(stacked);
    if (Flaw == 1) return null.add(full, scale);
    if (Flaw == 2) stacked.mul_(1.0);
    if (Flaw == 3) full.add_(0.25);
    if (Flaw == 4) return null.add(full.sub(null), scale).to(at::kDouble);
    if (Flaw == 5) return null.add(full.sub(null).sub(full.sub(null).mean()), scale);
    if (Flaw == 10) return full.add(null.sub(full), scale);
    return null.add(full.sub(null), Flaw == 6 ? 2.0 : scale);
  }
  std::array<double, 2> weights(const Step&) const {
    if (Flaw == 8) return {scale, -scale};
    if (Flaw == 9) return {scale + 1.0, -scale};
    if (Flaw == 10) return {1.0 - scale, scale};
    return {scale, 1.0 - scale};
  }
};

/// Says that it takes Euler's steps, and takes ancestral ones.
struct MistakenForm : EulerAncestral {
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    return EulerForm{.down = step.sigma_next};
  }
};

/// `DualGuidance` that mistakes the branch of the image for the one without conditions, and vice versa.
struct SwappedGuidance {
  static constexpr auto branches = DualGuidance::branches;
  double image_scale = 1.5, text_scale = 7.5;
  at::Tensor combine(const at::Tensor& stacked, const Step&) const {
    const auto [full, null, image] = detail::split_branches<3>(stacked);
    return null.add(full.sub(image), text_scale).add(image.sub(null), image_scale);
  }
};

struct FlawedNoise {
  int flaw;
  CounterNoise noise{1};
  std::shared_ptr<int> shared = std::make_shared<int>(0);
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    at::Tensor value = noise.normal(shape, flaw == 1 ? 0 : flaw == 8 ? draw % 4 : draw);
    if (flaw == 7) value = value.narrow(0, 0, 1).expand_as(value);
    if (flaw == 9 && value.dim() == 4 && value.size(1) % 2 == 0) {  // antithetic within a sample
      const auto half = value.narrow(1, 0, value.size(1) / 2);
      value = at::cat({half, half.neg()}, 1);
    }
    if (flaw == 10) value = at::cat({value.narrow(0, 0, 1), value.narrow(0, 0, 1).neg()});  // and between samples
    if (flaw == 11 && value.dim() == 4)
      value = at::cat({value, value.flip(3)}, 3).narrow(3, value.size(3) / 2, value.size(3));
    if (flaw == 2) value = value.to(at::kDouble);
    if (flaw == 3) value = value.add(0.1);
    if (flaw == 4) value = value.mul(1.1);
    if (flaw == 5) value = value.sign();
    if (flaw == 6) value = value.mul(1.0 + 1e-6 * ++*shared);
    return value;
  }
};

enum class DescentFlaw { none, wrong_sign, ignores_rate, ignores_options };

/// Descent with momentum.
template <DescentFlaw flaw>
class FlawedDescent {
 public:
  struct Options {
    double beta = 0.9;
  };
  FlawedDescent(std::vector<at::Tensor> parameters, const Options& options)
      : parameters_(std::move(parameters)), options_(options) {
    if (flaw == DescentFlaw::ignores_options) options_ = {};
    for (const auto& parameter : parameters_) velocities_.push_back(at::zeros_like(parameter));
  }
  void step(double rate) {
    const at::NoGradGuard no_grad;
    if (flaw == DescentFlaw::ignores_rate) rate = 0.01;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!parameters_[i].grad().defined()) continue;
      velocities_[i].mul_(options_.beta).add_(parameters_[i].grad());
      parameters_[i].sub_(velocities_[i], flaw == DescentFlaw::wrong_sign ? -rate : rate);
    }
  }
  void zero_gradients() {
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }
  std::vector<OptimiserState> state() const { return {{"velocity", velocities_}}; }

 private:
  std::vector<at::Tensor> parameters_, velocities_;
  Options options_;
};

}  // namespace

TEST_CASE("The conformance kit accepts the archetypes", "[testing]") {
  check_schedule(testing::ScheduleArchetype(14.6));
  check_sampler(testing::SamplerArchetype(0));
  check_guidance(testing::GuidanceArchetype(0));
}

TEST_CASE("The conformance kit accepts a user's sound policy", "[testing]") {
  check_guidance(FadingGuidance{});
  check_sampler(FlawedSampler{Defect::none});
  check_guidance(FlawedGuidance<0>{}, FlawedGuidance<0>{1.0});
  check_noise(FlawedNoise{0});
  check_noise(FlawedNoise{0}, 1);
  check_optimiser<FlawedDescent<DescentFlaw::none>>({}, {{.beta = 0.5}});
}

TEST_CASE("check_sampler names the broken law", "[testing]") {
  const auto broken = [](Defect defect, const std::string& law) {
    require_broken([&] { check_sampler(FlawedSampler{defect}); }, "SamplerPolicy breaks the law \"" + law);
  };
  broken(Defect::residue, "exact for a point mass");
  broken(Defect::last_noise, "exact for a point mass");
  broken(Defect::changes_x, "the argument x is not changed");
  broken(Defect::impure, "equal noise gives equal bits");
  broken(Defect::forgets_dtype, "the dtype of x is kept");
  broken(Defect::batch_noise, "a batch equals its samples");
  broken(Defect::silent, "on_step is called once per step");
  broken(Defect::wrong_steps, "steps carry the run's noise levels");
  broken(Defect::unrevised, "the run goes on from what revise returns");
  broken(Defect::deaf, "a requested stop throws Cancelled");
  broken(Defect::trusting, "unsound noise levels are refused");
  broken(Defect::shapeless, "a denoiser that answers another shape is refused");
  broken(Defect::old_sigma, "the denoiser is told the noise level of what it is shown\": told 14.6, shown ");
  broken(Defect::told_next_sigma, "the denoiser is told the noise level of what it is shown");
  broken(Defect::told_first_step, "the denoiser is told the step");
  broken(Defect::first_draw, "step i adds draw i + 1 of the noise, asked for once\": step 1 asked for draw 1");
  require_broken([] { check_sampler(MistakenForm{}); }, "SamplerPolicy breaks the law \"steps are those of euler_form");
  broken(Defect::draws_twice, "step i adds draw i + 1 of the noise, asked for once\": step 0 asked for draw 1, 1");
}

TEST_CASE("check_schedule names the broken law", "[testing]") {
  const auto broken = [](auto levels, double slope, const std::string& law) {
    require_broken([&] { check_schedule(FlawedSchedule{levels, slope}); }, "SchedulePolicy breaks the law \"" + law);
  };
  broken([](std::int64_t n) { return std::vector<double>(static_cast<std::size_t>(n), 0.0); }, 1.0,
         "n steps have n + 1");
  broken([](std::int64_t n) { return std::vector<double>(static_cast<std::size_t>(n + 1), 0.0); }, 1.0,
         "strictly decreasing");
  broken([](std::int64_t) { return std::vector<double>{2.0, 1.0}; }, 1.0, "the last noise level is 0");
  broken([](std::int64_t) { return std::vector<double>{NAN, 0.0}; }, 1.0, "finite noise levels");
  broken([](std::int64_t n) { return testing::test_sigmas(n); }, NAN, "timesteps are finite");
  broken([](std::int64_t n) { return testing::test_sigmas(n); }, -1.0, "timesteps do not rise where sigma falls");
  broken([](std::int64_t n) { return testing::test_sigmas(n); }, 0.0, "timesteps tell noise levels apart");
  broken([](std::int64_t n) { return testing::test_sigmas(n < 1 ? 1 : n); }, 1.0, "fewer than one step is refused");
}

TEST_CASE("check_guidance names the broken law", "[testing]") {
  const auto broken = [](const auto& guidance, const std::string& law) {
    require_broken([&] { check_guidance(guidance); }, "breaks the law \"" + law);
  };
  broken(FlawedGuidance<1>{}, "where all branches agree");
  broken(FlawedGuidance<3>{}, "where all branches agree");
  broken(FlawedGuidance<4>{}, "the dtype is kept");
  broken(FlawedGuidance<5>{}, "a batch equals its samples");
  broken(FlawedGuidance<6>{}, "combine equals the weighted sum");
  broken(FlawedGuidance<7>{}, "the fully conditioned branch is the first");
  broken(FlawedGuidance<8>{}, "the weights sum to 1");
  broken(FlawedGuidance<9>{}, "combine equals the weighted sum");
  broken(FlawedGuidance<10>{}, "the result goes towards what the conditionings add, never away from it");
  require_broken([] { check_guidance(FlawedGuidance<0>{}, FlawedGuidance<0>{2.0}); }, "with all scales 1");
  // Only its scales tell which of two branches is which.
  check_guidance(SwappedGuidance{}, SwappedGuidance{1.0, 1.0});
  require_broken(
      [] {
        check_guidance(SwappedGuidance{}, SwappedGuidance{1.0, 1.0}, {.text = 7.5, .image = 1.5});
      },
      "the result goes along each conditioning as far as its scale says");
}

TEST_CASE("check_noise names the broken law", "[testing]") {
  const auto broken = [](int flaw, const std::string& law) {
    require_broken([&] { check_noise(FlawedNoise{flaw}); }, "NoiseSource breaks the law \"" + law);
  };
  broken(1, "draws differ");
  broken(2, "fp32 CPU tensor");
  broken(3, "mean 0");
  broken(4, "variance 1");
  broken(5, "fourth moment 3");
  broken(6, "equal sources give equal bits");
  broken(7, "samples are independent");
  broken(8, "draws are independent");
  broken(9, "values of a sample are independent");
  broken(10, "samples are independent");
  broken(11, "values of a sample are independent");
  require_broken([] { check_noise(FlawedNoise{0}, 4, 2); }, "samples of a group share their noise");
}

TEST_CASE("check_optimiser names the broken law", "[testing]") {
  require_broken([] { check_optimiser<FlawedDescent<DescentFlaw::wrong_sign>>(); }, "a step goes down the gradient");
  require_broken([] { check_optimiser<FlawedDescent<DescentFlaw::ignores_rate>>(); }, "the rate is not ignored");
  require_broken([] { check_optimiser<FlawedDescent<DescentFlaw::ignores_options>>({}, {{.beta = 0.5}}); },
                 "options are not ignored");
}

TEST_CASE("The library's templates ask their arguments for no more than the concepts promise", "[testing]") {
  NetworkDenoiser denoiser(guided(
                               [](const at::Tensor& x, double, const Step&, std::span<const Branch> branches) {
                                 return x.repeat({static_cast<std::int64_t>(branches.size()), 1, 1, 1});
                               },
                               testing::GuidanceArchetype(0)),
                           testing::ScheduleArchetype(14.6));
  testing::NoiseArchetype noise(1);
  const std::vector<double> sigmas = testing::ScheduleArchetype(14.6).sigmas(3);
  REQUIRE(testing::SamplerArchetype(0)
              .sample(denoiser, CounterNoise(1).normal({1, 4, 2, 2}, 0), sigmas, noise, {})
              .size(0) == 1);
}
