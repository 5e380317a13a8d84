#include "ip2p/codec/linear_preview.hpp"

#include <ATen/ops/allclose.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/zeros.h>

#include "ip2p/core/random.hpp"
#include "support/catch.hpp"

using ip2p::LinearPreview;

TEST_CASE("LinearPreview finds a linear decoder, and blurs within a latent pixel", "[codec]") {
  ip2p::CounterNoise noise(7);
  const auto latents = noise.normal({2, 4, 6, 8}, 0), map = noise.normal({3, 4}, 1);
  const auto colours = at::matmul(map, latents.reshape({2, 4, 48})).add(0.25).reshape({2, 3, 6, 8});
  const auto pictures = at::repeat_interleave(at::repeat_interleave(colours, 8, 2), 8, 3);
  const auto preview = LinearPreview::fitted(latents, pictures);
  CHECK(at::allclose(preview(latents), colours, 1e-2, 2e-3));
  const auto others = noise.normal({1, 4, 3, 5}, 2);
  const auto expected = at::matmul(map, others.reshape({1, 4, 15})).add(0.25).reshape({1, 3, 3, 5});
  CHECK(at::allclose(preview(others), expected, 1e-2, 2e-3));
  // Detail within a latent pixel has no effect.
  auto detailed = pictures.clone();
  detailed.slice(3, 0, 64, 2).add_(0.5);
  detailed.slice(3, 1, 64, 2).sub_(0.5);
  CHECK(at::allclose(LinearPreview::fitted(latents, detailed)(latents), colours, 1e-2, 2e-3));
}

TEST_CASE("LinearPreview is finite for pictures of one colour, and refuses other shapes", "[codec]") {
  const auto latents = at::zeros({1, 4, 2, 2});
  const auto preview = LinearPreview::fitted(latents, at::zeros({1, 3, 16, 16}).add(0.5));
  CHECK(at::allclose(preview(latents), at::zeros({1, 3, 2, 2}).add(0.5), 1e-3, 1e-3));
  CHECK_THROWS_WITH(LinearPreview::fitted(latents, at::zeros({1, 3, 15, 16})), Contains("LinearPreview: expected"));
  CHECK_THROWS_WITH(preview(at::zeros({1, 5, 2, 2})), Contains("expected latents [B,4,h,w], found [1, 5, 2, 2]"));
}
