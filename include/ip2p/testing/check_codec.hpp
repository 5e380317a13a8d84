#pragma once

/// \file
/// The laws of `ImageCodec` and `PosteriorCodec`.

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// What `check_codec` needs to know about a codec.
struct CodecCheck {
  /// Largest mean |decode(encode(x)) - x| over smooth pictures x in [-1,1]. Infinite, as for untrained weights: not
  /// checked.
  double round_trip = std::numeric_limits<double>::infinity();

  double tolerance = 1e-4;  ///< Between a picture in a batch and alone, relative to 1 + its values.
};

/// Two smooth pictures [2,3,height,width] in [-1,1], different in every corner.
inline at::Tensor codec_pictures(std::int64_t height, std::int64_t width) {
  const auto y = at::arange(height, at::kFloat).mul(2.0 / static_cast<double>(height)).unsqueeze(1);
  const auto x = at::arange(width, at::kFloat).mul(2.0 / static_cast<double>(width)).unsqueeze(0);
  std::vector<at::Tensor> channels;
  for (int i = 0; i < 6; ++i) channels.push_back((y * (1.0 + 0.3 * i) - x * (2.2 - 0.4 * i) + 0.9 * i).sin() * 0.9);
  return at::stack(channels).view({2, 3, height, width});
}

/// Throws `Error` naming the first law of `ImageCodec` that `codec` breaks, or of `PosteriorCodec` if it has
/// `encode_moments`. Uses pairs of pictures of 4 x 6 and of 7 x 3 latent pixels.
template <class Codec>
void check_codec(const Codec& codec, const CodecCheck& check = {}) {
  require_image_codec<Codec>();
  constexpr auto role = "ImageCodec";
  const std::int64_t f = codec.downscale(), channels = codec.latent_channels();
  const double scaling = codec.scaling_factor();
  expect_law(f >= 1 && channels >= 1, role, "downscale() and latent_channels() are at least 1", "found {} and {}", f,
             channels);
  expect_law(std::isfinite(scaling) && scaling != 0.0, role, "the scaling factor is finite and not 0", "found {}",
             scaling);
  const auto alone = [](const at::Tensor& batch, auto&& call) {
    return at::cat({call(batch.narrow(0, 0, 1)), call(batch.narrow(0, 1, 1))});
  };
  const auto sound = [&](const at::Tensor& result, const std::vector<std::int64_t>& expected, std::string_view law) {
    expect_law(result.defined() && result.sizes() == at::IntArrayRef(expected) && result.is_floating_point(), role, law,
               "expected {}, found {}", shape_text(expected), tensor_text(result));
    expect_finite(result, role, "values are finite");
  };

  for (const auto& [h, w] : {std::array<std::int64_t, 2>{4, 6}, std::array<std::int64_t, 2>{7, 3}}) {
    const auto images = codec_pictures(h * f, w * f);
    const auto encode = [&](const at::Tensor& x) -> at::Tensor { return codec.encode(x); };
    const auto decode = [&](const at::Tensor& x) -> at::Tensor { return codec.decode(x); };

    const auto latents = encode(images).clone();
    sound(latents, {2, channels, h, w}, "images [B,3,H,W] become latents [B,C,H/f,W/f]");
    expect_same_bits(images, codec_pictures(h * f, w * f), role, "arguments are not changed", "encode");
    expect_same_bits(encode(images), latents, role, "equal calls give equal bits", "encode");
    expect_close(latents, alone(images, encode), check.tolerance, role, "a batch equals the loop over its images",
                 "encode");
    expect_law(!latents[0].equal(latents[1]), role, "different pictures have different latents", "they are equal");

    const auto kept = latents.clone();
    const auto decoded = decode(latents).clone();
    sound(decoded, {2, 3, h * f, w * f}, "latents [B,C,h,w] become pictures [B,3,f*h,f*w]");
    expect_same_bits(latents, kept, role, "arguments are not changed", "decode");
    expect_same_bits(decode(latents), decoded, role, "equal calls give equal bits", "decode");
    expect_close(decoded, alone(latents, decode), check.tolerance, role, "a batch equals the loop over its images",
                 "decode");
    const double error = decoded.to(images.options()).sub(images).abs().mean().template item<double>();
    expect_law(error <= check.round_trip, role, "decode(encode(x)) stays within the round-trip bound",
               "expected a mean difference of at most {}, found {}", check.round_trip, error);

    if constexpr (requires { codec.encode_moments(images).mean, codec.encode_moments(images).logvar; }) {
      constexpr auto posterior = "PosteriorCodec";
      const auto moments = codec.encode_moments(images);
      const at::Tensor mean = moments.mean, logvar = moments.logvar;
      expect_close(mean, latents, check.tolerance, posterior, "the posterior's mean is what encode gives");
      expect_law(
          logvar.defined() && logvar.sizes() == latents.sizes() && at::isfinite(logvar).all().template item<bool>(),
          posterior, "the log variance is finite and of the latents' shape", "expected {} without NaN, found {}",
          shape_text(latents.sizes()), tensor_text(logvar));
      if constexpr (requires { moments.sample(images); }) {
        const auto noise = CounterNoise(8).normal(latents.sizes(), 0).to(latents.options());
        expect_close(moments.sample(noise), mean.add(logvar.mul(0.5).exp().mul(noise)), check.tolerance, posterior,
                     "a sample is mean + exp(logvar / 2) * noise");
      }
    }
  }
}

}  // namespace ip2p::testing
