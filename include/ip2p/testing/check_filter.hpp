#pragma once

/// \file
/// The laws of `PairFilter`.

#include <ATen/ops/full_like.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/filter/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// How often a generated pair's features were requested.
struct FeatureReads {
  int pictures = 0, captions = 0;  ///< Times that each was computed.
};

/// A pair whose captions and pictures depend on `seed` and whose features are the given rows [2, D].
inline CandidatePair made_pair(std::uint64_t seed, const at::Tensor& pictures, const at::Tensor& captions,
                               const std::shared_ptr<FeatureReads>& reads = std::make_shared<FeatureReads>()) {
  const auto picture = [&](std::uint64_t which) {
    Image image{6, 5, std::vector<std::uint8_t>(90)};
    std::uint64_t state = seed * 2 + which + 1;
    for (auto& value : image.pixels) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      value = static_cast<std::uint8_t>(state >> 56);
    }
    return image;
  };
  return {picture(0), picture(1), "a photograph " + std::to_string(seed), "a painting " + std::to_string(seed),
          PairFeatures(LazyFeatures([=] { return ++reads->pictures, pictures; }),
                       LazyFeatures([=] { return ++reads->captions, captions; }))};
}

/// Throws `Error` naming the first law of `PairFilter` that `filter` breaks, over generated pairs in many directions.
template <class Filter>
void check_filter(const Filter& filter) {
  require_pair_filter<Filter>();
  constexpr auto role = "PairFilter";
  constexpr auto cost = detail::filter_cost<Filter>();
  const auto noise = [](std::uint64_t seed, double spread) {
    // Clustered around one direction, as features of related pictures and captions are.
    auto rows = CounterNoise(seed).normal({2, 8}, 0).mul(spread);
    rows.select(1, 0).add_(1.0);
    return rows.div(rows.norm(2, {1}, true));
  };
  constexpr std::uint64_t count = 24;
  const auto pair_of = [&](std::uint64_t seed, const std::shared_ptr<FeatureReads>& reads) {
    const double spread = 0.1 * static_cast<double>(1 + seed % 6);
    return made_pair(seed, noise(seed, spread), noise(seed + 1000, spread), reads);
  };

  const auto text = [](const Verdict& verdict) {
    return verdict.kept() ? std::string("kept")
                          : fmt::format("{} {:.6g} of {:.6g}", verdict.reason, verdict.found, verdict.wanted);
  };
  std::vector<Verdict> verdicts;
  bool looks = false;
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    const auto reads = std::make_shared<FeatureReads>();
    const auto pair = pair_of(seed, reads);
    const Image before = pair.before, after = pair.after;
    verdicts.push_back(filter(pair));
    expect_law(pair.before == before && pair.after == after, role, "the pair is not changed",
               "other pixels in {} picture of pair {}", pair.before == before ? "the second" : "the first", seed);
    expect_law(cost >= FilterCost::image_features || reads->pictures == 0, role,
               "features are looked at only where the cost says so",
               "expected no look at those of the pictures of pair {}, found {}", seed, reads->pictures);
    expect_law(cost >= FilterCost::all_features || reads->captions == 0, role,
               "features are looked at only where the cost says so",
               "expected no look at those of the captions of pair {}, found {}", seed, reads->captions);
    looks = looks || reads->pictures + reads->captions > 0;
    const Verdict again = filter(pair);
    expect_law(again == verdicts.back(), role, "equal pairs get equal verdicts",
               "pair {} asked twice: \"{}\" and then \"{}\"", seed, text(verdicts.back()), text(again));
  }
  for (std::uint64_t seed = count; seed-- > 0;) {
    const Filter copy(filter);
    const Verdict again = copy(pair_of(seed, std::make_shared<FeatureReads>()));
    expect_law(again == verdicts[seed], role, "equal pairs get equal verdicts",
               "pair {} in reverse order: expected \"{}\", found \"{}\"", seed, text(verdicts[seed]), text(again));
  }
  if (looks) {
    const auto none = at::full_like(noise(0, 0.1), NAN);
    for (std::uint64_t seed = 0; seed < count; ++seed) {
      expect_law(!filter(made_pair(seed, none, none)).kept(), role, "features that are not numbers are rejected",
                 "pair {} was kept", seed);
    }
  }
}

}  // namespace ip2p::testing
