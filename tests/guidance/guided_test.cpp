#include "ip2p/guidance/guided.hpp"

#include <ATen/ops/cat.h>

#include <cmath>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "support/closed_form.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

/// The fixture's network: each branch has its own shift.
struct BranchNetwork {
  std::vector<Branch>* asked = nullptr;
  at::Tensor operator()(const at::Tensor& x, double t, const Step&, std::span<const Branch> branches) const {
    std::vector<at::Tensor> parts;
    for (const Branch& branch : branches) {
      parts.push_back(testing::closed_form_network(x, t, branch.text ? 0.3F : branch.image ? 0.2F : 0.1F));
      if (asked != nullptr) asked->push_back(branch);
    }
    return at::cat(parts);
  }
};

const Step first{.index = 0, .count = 2, .sigma = 2.0, .sigma_next = 0.0};

/// Text guidance that a user wrote without weights; its scale is 0 after the first step.
struct Unweighted {
  static constexpr auto branches = TextGuidance::branches;
  at::Tensor combine(const at::Tensor& stacked, const Step& step) const {
    return TextGuidance{step.index == 0 ? 2.0 : 0.0}.combine(stacked, step);
  }
};

/// Dual guidance in the first half of a run, none after it.
struct FirstHalf {
  static constexpr auto branches = DualGuidance::branches;
  DualGuidance inside{}, outside{.image_scale = 1.0, .text_scale = 1.0};
  const DualGuidance& of(const Step& step) const { return step.progress() < 0.5 ? inside : outside; }
  at::Tensor combine(const at::Tensor& stacked, const Step& step) const { return of(step).combine(stacked, step); }
  std::array<double, 3> weights(const Step& step) const { return of(step).weights(step); }
};
static_assert(LinearGuidancePolicy<FirstHalf>);

}  // namespace

TEST_CASE("Guided evaluates no branch of zero weight", "[guidance]") {
  const at::Tensor x = CounterNoise(1).normal({2, 4, 3, 3}, 0);
  const Branch full{true, true};
  const Branch image{false, true};
  const Branch null{false, false};
  const auto evaluated = [&](auto guidance) {
    std::vector<Branch> asked;
    Guided network(BranchNetwork{&asked}, guidance);
    const at::Tensor found = network(x, 500.25, first);
    // Leaving branches out must not change the value.
    const at::Tensor all = guidance.combine(BranchNetwork{}(x, 500.25, first, guidance.branches), first);
    REQUIRE(testing::largest_difference(found, all) < 1e-5);
    REQUIRE(network.evaluated_branches() == static_cast<std::int64_t>(asked.size()));
    return asked;
  };
  REQUIRE((evaluated(DualGuidance{1.5, 7.5}) == std::vector{full, image, null}));
  REQUIRE((evaluated(DualGuidance{1.0, 7.5}) == std::vector{full, image}));
  REQUIRE((evaluated(DualGuidance{1.5, 1.5}) == std::vector{full, null}));
  REQUIRE((evaluated(DualGuidance{1.5, 0.0}) == std::vector{image, null}));
  REQUIRE((evaluated(DualGuidance{1.0, 1.0}) == std::vector{full}));
  REQUIRE((evaluated(DualGuidance{1.0, 0.0}) == std::vector{image}));
  REQUIRE((evaluated(DualGuidance{0.0, 0.0}) == std::vector{null}));
  REQUIRE((evaluated(TextGuidance{7.5}) == std::vector{full, image}));
  REQUIRE((evaluated(TextGuidance{1.0}) == std::vector{full}));
  REQUIRE((evaluated(TextGuidance{0.0}) == std::vector{image}));
  REQUIRE((evaluated(NoGuidance{}) == std::vector{full}));
  REQUIRE((evaluated(Unweighted{}) == std::vector{full, image}));
}

TEST_CASE("Guided follows weights that change from step to step", "[guidance]") {
  const std::vector<double> sigmas = LogLinearSigmas{}.sigmas(10);
  NetworkDenoiser denoiser(Guided(BranchNetwork{}, FirstHalf{}), LogLinearSigmas{});
  TorchNoise noise(1);
  const at::Tensor start = noise.normal({1, 4, 3, 3}, 0).mul(sigmas.front());
  (void)EulerAncestral{}.sample(denoiser, start, sigmas, noise);
  REQUIRE(denoiser.network().evaluated_branches() == 5 * 3 + 5 * 1);
}

TEST_CASE("DualGuidance over a whole run equals the released arithmetic, whichever way it is combined", "[guidance]") {
  const auto fixture = testing::golden("sampling/fixtures/runs.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  REQUIRE(fixture["guided"].size() == 5);
  for (const auto& run : fixture["guided"]) {
    const DualGuidance guidance{.image_scale = run["image_scale"].get<double>(),
                                .text_scale = run["text_scale"].get<double>()};
    INFO("image " << guidance.image_scale << ", text " << guidance.text_scale);
    const auto sigmas = run["sigmas"].get<std::vector<double>>();
    const auto difference = [&](auto denoiser) {
      TorchNoise noise(run["seed"].get<std::uint64_t>());
      double largest = 0.0;
      std::size_t steps = 0;
      RunHooks hooks;
      hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
        const auto expected = testing::golden_tensor(run["states"].at(static_cast<std::size_t>(step.index)), shape);
        largest =
            std::max(largest, testing::largest_difference(latents, expected) / expected.abs().max().item<double>());
        ++steps;
      };
      (void)EulerAncestral{}.sample(denoiser, noise.normal(shape, 0).mul(sigmas.front()), sigmas, noise, hooks);
      REQUIRE(steps == run["states"].size());
      return largest;
    };
    REQUIRE(difference(NetworkDenoiser(Guided(BranchNetwork{}, guidance), LogLinearSigmas{})) < 2e-6);
    REQUIRE(difference(Guided(
                NetworkDenoiser([](const at::Tensor& x, double t, const Step& step,
                                   std::span<const Branch> branches) { return BranchNetwork{}(x, t, step, branches); },
                                LogLinearSigmas{}),
                guidance)) < 2e-6);
  }
}

TEST_CASE("Guided combines 16-bit predictions in the dtype of the latents", "[guidance]") {
  const at::Tensor x = CounterNoise(1).normal({2, 4, 3, 3}, 0);
  const auto narrow = [](const at::Tensor& y, double t, const Step& step, std::span<const Branch> branches) {
    return BranchNetwork{}(y, t, step, branches).to(at::kBFloat16);
  };
  const DualGuidance guidance{};
  Guided network(narrow, guidance);
  const at::Tensor found = network(x, 500.25, first);
  const at::Tensor wide = guidance.combine(narrow(x, 500.25, first, guidance.branches).to(at::kFloat), first);
  REQUIRE(found.scalar_type() == at::kFloat);
  REQUIRE(testing::largest_difference(found, wide) == 0.0);
}

TEST_CASE("Guided refuses a network that returns another number of rows, and scales that are not numbers",
          "[guidance]") {
  const at::Tensor x = CounterNoise(1).normal({2, 4, 3, 3}, 0);
  Guided wrong([](const at::Tensor& y, double, const Step&, std::span<const Branch>) { return y; }, DualGuidance{});
  REQUIRE_THROWS_WITH(wrong(x, 1.0, first),
                      "network: expected 6 predictions (3 branches of 2 samples), found [2, 4, 3, 3]");
  Guided endless(BranchNetwork{}, DualGuidance{.text_scale = NAN});
  REQUIRE_THROWS_WITH(endless(x, 1.0, first), Contains("expected finite weights, found nan"));
}
