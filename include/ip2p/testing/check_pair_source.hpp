#pragma once

/// \file
/// The laws of `PairSource`.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `PairSource` that `source` breaks, over its first `most` pairs, each with
/// three streams of random numbers.
template <class Source>
void check_pair_source(Source& source, std::int64_t most = 16) {
  require_pair_source<Source>();
  constexpr auto role = "PairSource";
  const std::int64_t size = source.size();
  expect_law(size > 0, role, "there is at least one pair", "found {}", size);
  const std::int64_t count = std::min(size, most);
  const auto get = [&](std::int64_t i, std::uint64_t step) -> EditPair {
    SampleRandom random(7, step, static_cast<std::uint64_t>(i));
    return source.get(i, random);
  };
  const auto same = [](const at::Tensor& a, const at::Tensor& b) {
    return a.defined() == b.defined() && (!a.defined() || same_bits(a, b));
  };

  std::vector<EditPair> pairs;
  for (std::uint64_t step = 0; step < 3; ++step) {
    for (std::int64_t i = 0; i < count; ++i) {
      pairs.push_back(get(i, step));
      const EditPair& pair = pairs.back();
      const auto latents = [&](const at::Tensor& x) {
        return x.defined() && x.dim() == 3 && x.scalar_type() == at::kFloat &&
               x.device() == pairs.front().target_mean.device() && x.sizes() == pairs.front().target_mean.sizes();
      };
      expect_law(latents(pair.target_mean) && latents(pair.target_logvar), role,
                 "all pairs have one shape [C,h,w], fp32 on one device",
                 "expected {} as in the first pair, found target {} and log variance {} in pair {}",
                 tensor_text(pairs.front().target_mean), tensor_text(pair.target_mean), tensor_text(pair.target_logvar),
                 i);
      expect_law(pair.condition.defined() == pairs.front().condition.defined(), role,
                 "all pairs have a condition or none has", "expected {} as in the first pair, found {} in pair {}",
                 tensor_text(pairs.front().condition), tensor_text(pair.condition), i);
      expect_law(!pair.condition.defined() || latents(pair.condition), role,
                 "all pairs have one shape [C,h,w], fp32 on one device", "expected a condition {}, found {} in pair {}",
                 tensor_text(pairs.front().target_mean), tensor_text(pair.condition), i);
      for (const auto& tensor : {pair.target_mean, pair.target_logvar, pair.condition}) {
        if (tensor.defined()) expect_finite(tensor, role, "values are finite", fmt::format("pair {}", i));
      }
    }
  }
  for (std::size_t n = pairs.size(); n-- > 0;) {
    const auto i = static_cast<std::int64_t>(n) % count;
    const EditPair again = get(i, n / static_cast<std::size_t>(count));
    constexpr auto law = "get is a function of i and the numbers it draws";
    const auto expect_same = [&](const at::Tensor& found, const at::Tensor& expected, std::string_view what) {
      if (!same(found, expected))
        expect_law(false, role, law, "{} of pair {}: {}", what, i, difference_text(found, expected));
    };
    expect_same(again.target_mean, pairs[n].target_mean, "target");
    expect_same(again.target_logvar, pairs[n].target_logvar, "log variance");
    expect_same(again.condition, pairs[n].condition, "condition");
    expect_law(again.instruction == pairs[n].instruction, role, law,
               "instruction of pair {}: expected \"{}\", found \"{}\"", i, pairs[n].instruction, again.instruction);
  }
  expect_law(source.size() == size, role, "the number of pairs stays", "expected {}, found {}", size, source.size());
}

}  // namespace ip2p::testing
