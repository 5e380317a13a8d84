#pragma once

/// \file
/// The laws of `NoiseSource`.

#include <ATen/ops/isfinite.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` that names the first law of `NoiseSource` which `source` breaks. `batch`: the number of samples that
/// the source serves. The argument itself is not drawn from.
template <class Source>
void check_noise(const Source& source, std::int64_t batch = 1) {
  require_noise_source<Source>();
  constexpr auto role = "NoiseSource";

  // The shapes lie on both sides of 16 elements, where torch's own rule changes.
  const std::vector<std::vector<std::int64_t>> shapes{{batch}, {batch, 3}, {batch, 4, 5, 3}, {batch, 4, 64, 64}};
  Source first = source;
  Source second = source;
  std::int64_t draw = 0;
  for (const auto& shape : shapes) {
    const at::Tensor noise = first.normal(shape, draw);
    expect_law(noise.defined() && noise.sizes() == at::IntArrayRef(shape) && noise.scalar_type() == at::kFloat &&
                   noise.device().is_cpu(),
               role, "fp32 CPU tensor of the asked shape", "asked for {}", shape_text(shape));
    expect_law(at::isfinite(noise).all().template item<bool>(), role, "finite values", "shape {}", shape_text(shape));
    expect_law(same_bits(noise, second.normal(shape, draw)), role, "equal sources give equal bits", "draw {}", draw);
    ++draw;
  }

  const at::Tensor noise = first.normal({batch, 4, 64, 64}, draw);
  expect_law(!same_bits(noise, first.normal({batch, 4, 64, 64}, draw + 1)), role, "draws differ", "draws {} and {}",
             draw, draw + 1);
  const auto count = static_cast<double>(noise.numel());
  const double mean = noise.mean().template item<double>();
  const double square = noise.square().mean().template item<double>();
  const double fourth = noise.square().square().mean().template item<double>();
  // Six standard errors of each moment: one sound source in 10^8 would fail.
  expect_law(std::abs(mean) < 6.0 / std::sqrt(count), role, "mean 0", "{}", mean);
  expect_law(std::abs(square - 1.0) < 6.0 * std::sqrt(2.0 / count), role, "variance 1", "{}", square);
  expect_law(std::abs(fourth - 3.0) < 6.0 * std::sqrt(96.0 / count), role, "fourth moment 3", "{}", fourth);

  // A copy continues where the original stands, whichever of the two is asked first.
  Source copy = first;
  const at::Tensor ahead = copy.normal({batch, 20}, draw + 2);
  expect_law(same_bits(first.normal({batch, 20}, draw + 2), ahead), role, "a copy continues where the original stood",
             "they differ");
}

}  // namespace ip2p::testing
