#pragma once

/// \file
/// The laws of `GuidancePolicy` and `LinearGuidancePolicy`.

#include <ATen/ops/cat.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/guidance/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Calls whichever form of `combine` the guidance has, as in the first step of a run.
template <class Guidance>
at::Tensor combine_once(const Guidance& guidance, const at::Tensor& stacked, const Step& step, const at::Tensor& x) {
  auto run = detail::started(guidance);
  return detail::combined(guidance, stacked, step, x, run);
}

/// Throws `Error` naming the law of stateful guidance that is broken: equal runs give equal bits, a batch equals its
/// samples, and a copy of the state is independent.
template <class Guidance>
void check_guidance_run(const Guidance& guidance) {
  constexpr auto role = "StatefulGuidancePolicy";
  constexpr auto rows = static_cast<std::int64_t>(Guidance::branches.size());
  const auto step_at = [](std::int64_t i) {
    return Step{.index = i, .count = 10, .sigma = 14.6 / static_cast<double>(1 + i), .sigma_next = 0.01};
  };
  // Predictions and latents of step i for the sample `first` on.
  const auto predictions = [](std::int64_t i, std::int64_t first, std::int64_t count) {
    const at::Tensor all = CounterNoise(2).normal({2, rows, 4, 6, 5}, i).to(at::kDouble);
    return all.narrow(0, first, count).transpose(0, 1).flatten(0, 1);
  };
  const auto latents = [](std::int64_t i, std::int64_t first, std::int64_t count) {
    return CounterNoise(4).normal({2, 4, 6, 5}, i).to(at::kDouble).narrow(0, first, count);
  };
  const auto run_of = [&](std::int64_t first, std::int64_t count) {
    auto run = guidance.start();
    std::vector<at::Tensor> results;
    for (std::int64_t i = 0; i < 4; ++i) {
      const at::Tensor stacked = predictions(i, first, count);
      const auto before = run;
      results.push_back(guidance.combine(stacked, step_at(i), latents(i, first, count), run));
      auto copy = before;
      expect_same_bits(guidance.combine(stacked, step_at(i), latents(i, first, count), copy), results.back(), role,
                       "a copy of the state goes on by itself", fmt::format("after step {} of the original", i));
    }
    return results;
  };
  const auto results = run_of(0, 2);
  const auto again = run_of(0, 2);
  const auto alone = run_of(0, 1);
  const auto other = run_of(1, 1);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto where = fmt::format("step {}", i);
    expect_same_bits(again[i], results[i], role, "equal runs give equal bits", where);
    expect_close(results[i], at::cat({alone[i], other[i]}), 1e-9, role,
                 "a run of a batch equals the runs of its samples", where);
  }
}

/// How far a guidance moves along each conditioning; for a weighted sum, its scales. If all branches see the image, the
/// image counts once.
struct GuidanceStrength {
  double text = 1.0;  ///< Along the text.
  double image = 1.0;
};

/// Synthetic predictions [K*2,4,6,5] to which each conditioning contributes in its own channel: the text in 2, the
/// image in 3. The common part is larger, as in real predictions.
template <class Guidance>
at::Tensor additive_predictions(bool text, bool image) {
  at::Tensor shared = CounterNoise(4).normal({2, 4, 6, 5}, 0).to(at::kDouble).mul(10.0);
  shared.narrow(1, 2, 2).zero_();
  const at::Tensor added = CounterNoise(5).normal({2, 4, 6, 5}, 0).to(at::kDouble);
  std::vector<at::Tensor> blocks;
  for (const Branch& branch : Guidance::branches) {
    at::Tensor block = shared.clone();
    if (branch.text && text) block.select(1, 2).add_(added.select(1, 2));
    if (branch.image && image) block.select(1, 3).add_(added.select(1, 3));
    blocks.push_back(block);
  }
  return at::cat(blocks);
}

/// Throws `Error` naming the first law that `guidance` breaks: those of `GuidancePolicy` that hold at any scale, and
/// those of `LinearGuidancePolicy`, `SelectiveGuidancePolicy` and `StatefulGuidancePolicy` if they apply.
template <class Guidance>
void check_guidance(const Guidance& guidance) {
  require_guidance_policy<Guidance>();
  constexpr auto role = "GuidancePolicy";
  constexpr auto count = Guidance::branches.size();
  constexpr auto rows = static_cast<std::int64_t>(count);
  constexpr Branch first = Guidance::branches.front();
  expect_law(first == Branch{.text = true, .image = true}, role, "the fully conditioned branch is the first",
             "found one {} text and {} image", first.text ? "with" : "without", first.image ? "with" : "without");

  const std::vector<std::int64_t> shape{2, 4, 6, 5};
  const at::Tensor one = CounterNoise(1).normal(shape, 0).to(at::kDouble);
  const at::Tensor stacked = CounterNoise(2).normal({rows * 2, 4, 6, 5}, 0).to(at::kDouble);
  const at::Tensor others = CounterNoise(3).normal({rows * 2, 4, 6, 5}, 0).to(at::kDouble);
  const at::Tensor latents = CounterNoise(4).normal(shape, 0).to(at::kDouble);
  const auto combine = [&](const at::Tensor& predictions, const Step& step) {
    return combine_once(guidance, predictions, step, latents);
  };
  for (const std::int64_t index : {0, 3, 9}) {
    const Step step{.index = index, .count = 10, .sigma = 14.6 / static_cast<double>(1 + index), .sigma_next = 0.01};
    const auto where = fmt::format("step {}", index);

    const at::Tensor same = combine(one.repeat({rows, 1, 1, 1}), step);
    expect_close(same, one, 1e-9, role, "where all branches agree, so does the result", where);

    const at::Tensor before = stacked.clone();
    const at::Tensor result = combine(stacked, step);
    expect_law(result.sizes() == at::IntArrayRef(shape), role, "K * B rows become B",
               "expected {} for K = {}, B = 2, found {}", shape_text(shape), rows, shape_text(result.sizes()));
    expect_same_bits(stacked, before, role, "the argument is not changed", where);
    expect_same_bits(combine(stacked, step), result, role, "equal calls give equal bits", where);
    const auto kept = combine_once(guidance, stacked.to(at::kFloat), step, latents.to(at::kFloat)).scalar_type();
    expect_law(kept == at::kFloat, role, "the dtype is kept", "Float became {}", c10::toString(kept));

    std::vector<at::Tensor> singles;
    for (std::int64_t b = 0; b < 2; ++b) {
      std::vector<at::Tensor> own;
      for (std::int64_t k = 0; k < rows; ++k) own.push_back(stacked.narrow(0, 2 * k + b, 1));
      singles.push_back(combine_once(guidance, at::cat(own), step, latents.narrow(0, b, 1)));
    }
    expect_close(result, at::cat(singles), 1e-9, role, "a batch equals its samples combined one by one", where);

    const at::Tensor added = CounterNoise(5).normal({2, 4, 6, 5}, 0).to(at::kDouble);
    const at::Tensor guided = combine(additive_predictions<Guidance>(true, true), step);
    for (const std::int64_t channel : {2, 3}) {
      const double along = guided.select(1, channel).mul(added.select(1, channel)).sum().template item<double>();
      expect_law(along > -1e-9, role, "the result goes towards what the conditionings add, never away from it",
                 "{:.3g} along what the {} adds, step {}", along, channel == 2 ? "text" : "image", index);
    }

    if constexpr (SelectiveGuidancePolicy<Guidance>) {
      const auto needed = guidance.needs(step);
      at::Tensor changed = stacked.clone();
      for (std::int64_t k = 0; k < rows; ++k) {
        if (!needed[static_cast<std::size_t>(k)]) changed.narrow(0, 2 * k, 2).copy_(others.narrow(0, 2 * k, 2));
      }
      expect_close(combine(changed, step), result, 1e-9, "SelectiveGuidancePolicy",
                   "combine does not depend on branches that it does not need", where);
    }
    if constexpr (LinearGuidancePolicy<Guidance>) {
      constexpr auto linear = "LinearGuidancePolicy";
      const std::array<double, count> weights = guidance.weights(step);
      double sum = 0.0;
      double scale = 1.0;
      at::Tensor weighted = one.mul(0.0);
      const auto parts = detail::split_branches<count>(stacked);
      for (std::size_t k = 0; k < count; ++k) {
        sum += weights[k];
        scale += std::abs(weights[k]);
        weighted = weighted.add(parts[k], weights[k]);
      }
      expect_law(std::abs(sum - 1.0) <= 1e-12 * scale, linear, "the weights sum to 1", "found {} in {}", sum, where);
      expect_close(result, weighted, 1e-12 * scale, linear, "combine equals the weighted sum", where);
      const at::Tensor mixed = combine(stacked.mul(0.75).sub(others, 2.0), step);
      expect_close(mixed, result.mul(0.75).sub(combine(others, step), 2.0), 1e-11 * scale, linear, "combine is linear",
                   where);
    }
  }
  if constexpr (StatefulGuidancePolicy<Guidance>) check_guidance_run(guidance);
  if constexpr (count > 1) {
    expect_throws([&] { (void)combine(stacked.narrow(0, 0, 2 * rows - 1), Step{.sigma = 1.0}); }, role,
                  "rows that do not divide into branches are refused", "one row too few");
  }
}

/// As above, and checks that with all scales 1 (`neutral`) the result is the fully conditioned branch.
template <class Guidance>
void check_guidance(const Guidance& guidance, const Guidance& neutral) {
  check_guidance(guidance);
  check_guidance(neutral);
  constexpr auto rows = static_cast<std::int64_t>(Guidance::branches.size());
  const at::Tensor stacked = CounterNoise(2).normal({rows * 2, 4, 6, 5}, 0).to(at::kDouble);
  const at::Tensor latents = CounterNoise(4).normal({2, 4, 6, 5}, 0).to(at::kDouble);
  for (const std::int64_t index : {0, 3, 9}) {
    const Step step{.index = index, .count = 10, .sigma = 14.6 / static_cast<double>(1 + index), .sigma_next = 0.01};
    expect_close(combine_once(neutral, stacked, step, latents), stacked.narrow(0, 0, 2), 1e-9, "GuidancePolicy",
                 "with all scales 1 the result is the fully conditioned branch", fmt::format("step {}", index));
  }
}

/// As above, and checks that a weighted sum moves along each conditioning as far as its scales say, which detects
/// swapped branches.
template <class Guidance>
void check_guidance(const Guidance& guidance, const Guidance& neutral, const GuidanceStrength& strength) {
  check_guidance(guidance, neutral);
  const Step step{.index = 3, .count = 10, .sigma = 3.65, .sigma_next = 0.01};
  const auto without = additive_predictions<Guidance>(false, false).narrow(0, 0, 2);
  const auto moved = [&](bool text, bool image) {
    return additive_predictions<Guidance>(text, image).narrow(0, 0, 2).sub(without);
  };
  const at::Tensor expected = without.add(moved(true, false), strength.text).add(moved(false, true), strength.image);
  const auto guided =
      combine_once(guidance, additive_predictions<Guidance>(true, true), step, CounterNoise(4).normal({2, 4, 6, 5}, 0));
  expect_close(guided, expected, 1e-9, "GuidancePolicy",
               "the result goes along each conditioning as far as its scale says",
               fmt::format("{} times text and {} times image", strength.text, strength.image));
}

}  // namespace ip2p::testing
