#pragma once

/// \file
/// The laws of `NoiseSource`.

#include <ATen/ops/cat.h>

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `NoiseSource` that `source` breaks. Draws from copies only. \param batch
/// number of samples that the source serves, a multiple of `group` \param group samples that share their noise by
/// design (`SharedNoise`)
template <class Source>
void check_noise(const Source& source, std::int64_t batch = 2, std::int64_t group = 1) {
  require_noise_source<Source>();
  constexpr auto role = "NoiseSource";
  require(batch >= 1 && group >= 1 && batch % group == 0,
          "check_noise: expected a batch of at least 1 in groups, found {} in groups of {}", batch, group);

  // Shapes below and above 16 elements, where torch changes its algorithm.
  const std::vector<std::vector<std::int64_t>> shapes{{batch}, {batch, 3}, {batch, 4, 5, 3}, {batch, 4, 64, 64}};
  Source first = source;
  Source second = source;
  std::int64_t draw = 0;
  for (const auto& shape : shapes) {
    const at::Tensor noise = first.normal(shape, draw);
    expect_law(noise.defined() && noise.sizes() == at::IntArrayRef(shape) && noise.scalar_type() == at::kFloat &&
                   noise.device().is_cpu(),
               role, "fp32 CPU tensor of the asked shape", "expected {}, found {} on {}", shape_text(shape),
               tensor_text(noise), noise.defined() ? noise.device().str() : "no device");
    expect_finite(noise, role, "finite values");
    expect_same_bits(second.normal(shape, draw), noise, role, "equal sources give equal bits",
                     fmt::format("draw {}", draw));
    ++draw;
  }

  const at::Tensor noise = first.normal({batch, 4, 64, 64}, draw);
  expect_law(!same_bits(noise, first.normal({batch, 4, 64, 64}, draw + 1)), role, "draws differ",
             "draws {} and {} are equal", draw, draw + 1);
  const auto count = static_cast<double>(noise.numel() / group);
  const double mean = noise.mean().template item<double>();
  const double square = noise.square().mean().template item<double>();
  const double fourth = noise.square().square().mean().template item<double>();
  // Six standard errors of each moment: about one correct source in 10^8 would fail.
  expect_law(std::abs(mean) < 6.0 / std::sqrt(count), role, "mean 0", "found {}", mean);
  expect_law(std::abs(square - 1.0) < 6.0 * std::sqrt(2.0 / count), role, "variance 1", "found {}", square);
  expect_law(std::abs(fourth - 3.0) < 6.0 * std::sqrt(96.0 / count), role, "fourth moment 3", "found {}", fourth);

  // Samples of nine draws as rows of one matrix; they must be independent.
  constexpr std::int64_t draws = 9;
  const std::int64_t apart = batch / group;
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < draws; ++i) {
    const at::Tensor one = first.normal({batch, 4, 64, 64}, draw + 2 + i).to(at::kDouble).unflatten(0, {apart, group});
    expect_same_bits(one, one.narrow(1, 0, 1).expand_as(one), role, "samples of a group share their noise",
                     fmt::format("draw {}", draw + 2 + i));
    rows.push_back(one.select(1, 0));
  }
  const at::Tensor all = at::cat(rows);
  const auto size = static_cast<double>(all[0].numel());
  const at::Tensor together = all.flatten(1).matmul(all.flatten(1).t()).div(size);
  for (std::int64_t i = 0; i < all.size(0); ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      const double found = together[i][j].template item<double>();
      const bool one_draw = i / apart == j / apart;
      expect_law(std::abs(found) < 6.0 / std::sqrt(size), role,
                 one_draw ? "samples are independent" : "draws are independent",
                 "correlation {:.3f} of sample {} of draw {} and sample {} of draw {}", found, j % apart, j / apart,
                 i % apart, i / apart);
    }
  }
  // Within a sample: correlation with itself shifted and mirrored. Mirroring, or shifting by half, counts each pair of
  // values twice, hence the wider limit.
  const auto independent_of = [&](const at::Tensor& other, std::string_view how) {
    const double most = all.mul(other).flatten(1).mean(1).abs().max().template item<double>();
    expect_law(most < 9.0 / std::sqrt(size), role, "values of a sample are independent",
               "correlation {:.3f} with itself {}", most, how);
  };
  for (std::int64_t lag = 1; lag <= all[0].numel() / 2; lag *= 2) {
    independent_of(all.flatten(1).roll(lag, 1).view(all.sizes()), fmt::format("moved by {}", lag));
  }
  for (std::int64_t axis = 1; axis <= 3; ++axis) {
    independent_of(all.flip(axis), fmt::format("mirrored along axis {}", axis));
    independent_of(all.roll(all.size(axis) / 2, axis), fmt::format("moved by half along axis {}", axis));
  }
  independent_of(all.flip({1, 2, 3}), "backwards");
  draw += 2 + draws;

  // A copy continues where the original stood, whichever of the two is used first.
  Source copy = first;
  const at::Tensor ahead = copy.normal({batch, 20}, draw);
  expect_same_bits(ahead, first.normal({batch, 20}, draw), role, "a copy continues where the original stood");
}

}  // namespace ip2p::testing
