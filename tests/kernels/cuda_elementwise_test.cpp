// The very kernels of the device, run thread after thread on the host, against LibTorch.

#include "ip2p/kernels/cuda/elementwise.cuh"

#include <ATen/ops/gelu.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "ip2p/kernels/table.hpp"
#include "kernels/run_on_host.hpp"
#include "support/catch.hpp"

namespace {

using namespace on_host;

at::Tensor random_of(at::IntArrayRef sizes, at::ScalarType dtype, std::uint64_t seed, std::int64_t shift = 0) {
  return shifted_copy((at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::kFloat) * 2).to(dtype),
                      shift);
}

}  // namespace

TEST_CASE("CUDA GEGLU: forward and backward equal LibTorch's", "[kernels]") {
  using Case = std::tuple<std::int64_t, std::int64_t, at::ScalarType, std::int64_t>;
  for (const auto& [rows, hidden, dtype, shift] :
       {Case{5, 1280, at::kFloat, 0}, Case{3, 320, at::kBFloat16, 0}, Case{7, 64, at::kHalf, 0},
        Case{4, 7, at::kFloat, 0}, Case{9, 12, at::kHalf, 0}, Case{3, 64, at::kBFloat16, 3},
        Case{300, 8, at::kHalf, 0}}) {
    for (const bool with_bias : {true, false}) {
      INFO(rows << "x" << hidden << " of " << c10::toString(dtype) << (with_bias ? " with bias" : ""));
      const auto projected = random_of({rows, 2 * hidden}, dtype, 1, shift);
      const auto bias = random_of({2 * hidden}, dtype, 2, shift), dy = random_of({rows, hidden}, dtype, 3, shift);
      const auto leaf = projected.to(at::kDouble).requires_grad_();
      const auto halves = (with_bias ? leaf + bias.to(at::kDouble) : leaf).chunk(2, -1);
      const auto expected = halves[0] * at::gelu(halves[1]);
      expected.backward(dy.to(at::kDouble));

      const Guarded y({rows, hidden}, dtype, shift), gradient({rows, 2 * hidden}, dtype, shift);
      GegluArguments given;
      given.rows = rows;
      given.hidden = hidden;
      given.number = number_of_dtype(dtype);
      given.projected = projected.const_data_ptr();
      given.bias = with_bias ? bias.const_data_ptr() : nullptr;
      given.result = y.data();
      REQUIRE(geglu_forward(given, Run{}) == 0);
      CHECK(relative_error(y.checked(), expected.detach()) < tolerance(dtype));
      given.dy = dy.const_data_ptr();
      given.result = gradient.data();
      REQUIRE(geglu_backward(given, Run{}) == 0);
      CHECK(relative_error(gradient.checked(), leaf.grad()) < tolerance(dtype));
    }
  }
}

TEST_CASE("CUDA bias and residual: the sum is rounded once", "[kernels]") {
  using Case = std::tuple<std::int64_t, std::int64_t, at::ScalarType, std::int64_t>;
  for (const auto& [pixels, channels, dtype, shift] :
       {Case{35, 320, at::kFloat, 0}, Case{21, 320, at::kBFloat16, 0}, Case{9, 640, at::kHalf, 0},
        Case{50, 5, at::kFloat, 0}, Case{50, 12, at::kBFloat16, 0}, Case{33, 32, at::kHalf, 1}}) {
    for (int with = 0; with < 4; ++with) {
      INFO(pixels << "x" << channels << " of " << c10::toString(dtype) << ", " << with);
      const auto x = random_of({pixels, channels}, dtype, 1, shift),
                 residual = random_of({pixels, channels}, dtype, 2, shift);
      const auto bias = random_of({channels}, at::kFloat, 3);
      const Guarded y({pixels, channels}, dtype, shift);
      BiasResidualArguments given{.pixels = pixels, .channels = channels, .number = number_of_dtype(dtype)};
      given.x = x.const_data_ptr();
      if ((with & 1) != 0) given.bias = {.data = bias.const_data_ptr()};
      if ((with & 2) != 0) given.residual = residual.const_data_ptr();
      given.y = y.data();
      REQUIRE(add_bias_residual(given, Run{}) == 0);
      auto expected = x.to(at::kFloat);
      if ((with & 1) != 0) expected = expected + bias;
      if ((with & 2) != 0) expected = expected + residual.to(at::kFloat);
      CHECK(y.checked().equal(expected.to(dtype)));
    }
  }
}

TEST_CASE("CUDA doubling of maps is LibTorch's, bit for bit", "[kernels]") {
  using Case = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, at::ScalarType>;
  for (const auto& [samples, channels, height, width, dtype] :
       {Case{2, 64, 5, 3, at::kFloat}, Case{1, 320, 8, 8, at::kBFloat16}, Case{3, 7, 1, 9, at::kHalf},
        Case{2, 12, 4, 1, at::kBFloat16}}) {
    const auto x = random_of({samples, height, width, channels}, dtype, 1);
    const Guarded y({samples, 2 * height, 2 * width, channels}, dtype);
    const UpsampleArguments given{.rows = samples * height,
                                  .width = width,
                                  .channels = channels,
                                  .number = number_of_dtype(dtype),
                                  .x = x.const_data_ptr(),
                                  .y = y.data()};
    REQUIRE(upsample_nearest_2x(given, Run{}) == 0);
    const auto expected = at::upsample_nearest2d(x.permute({0, 3, 1, 2}), at::IntArrayRef{2 * height, 2 * width});
    CHECK(y.checked().equal(expected.permute({0, 2, 3, 1})));
  }
}

TEST_CASE("CUDA guided step equals LibTorch's, from any row of a table of coefficients", "[kernels]") {
  const std::int64_t samples = 2, channels = 4, height = 5, width = 3, steps = 3;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const std::int64_t branches : {1, 2, 3}) {
      for (const std::int64_t inputs : {1, 2}) {
        for (const bool last : {false, true}) {  // channels-last latents and noise, images
          INFO(c10::toString(dtype) << " branches " << branches << " inputs " << inputs
                                    << (last ? " channels-last" : ""));
          const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
          ip2p::GuidedStep step;
          step.predictions = random_of({branches * samples, channels, height, width}, dtype, 1).contiguous(format);
          step.latents = random_of({samples, channels, height, width}, at::kFloat, 2).contiguous(format);
          const auto noises = random_of({steps, samples, channels, height, width}, at::kFloat, 3);
          const auto table = random_of({steps, 5 + branches}, at::kFloat, 4);
          step.noise = noises[1];
          if (last) step.images = random_of({inputs * samples, 3, height, width}, dtype, 5).contiguous(format);
          step.coefficients = table[1];
          step.inputs = inputs;
          const auto expected = ip2p::libtorch_kernels().guided_step(step);

          const auto strides = [](const at::Tensor& map) {
            return MapStrides{map.stride(0), map.stride(1), map.stride(3)};
          };
          const std::int64_t image_channels = last ? 3 : 0, index = 1;
          const Guarded next(
              step.latents.permute(last ? at::IntArrayRef{0, 2, 3, 1} : at::IntArrayRef{0, 1, 2, 3}).sizes(),
              at::kFloat);
          const Guarded estimate(next.checked().sizes(), at::kFloat);
          const Guarded input({inputs * samples, height, width, channels + image_channels}, dtype);
          GuidedStepArguments given{.samples = samples,
                                    .channels = channels,
                                    .pixels = height * width,
                                    .image_channels = image_channels,
                                    .branches = branches,
                                    .inputs = inputs,
                                    .number = number_of_dtype(dtype)};
          given.predictions = step.predictions.const_data_ptr();
          given.latents = step.latents.const_data_ptr<float>();
          given.noise = noises.const_data_ptr<float>();
          given.images = last ? step.images.const_data_ptr() : nullptr;
          given.coefficients = table.const_data_ptr<float>();
          given.step = &index;
          given.coefficients_stride = table.stride(0);
          given.noise_stride = noises.stride(0);
          given.prediction_strides = strides(step.predictions);
          given.latent_strides = strides(step.latents);
          given.noise_strides = strides(step.noise);
          if (last) given.image_strides = strides(step.images);
          given.next = static_cast<float*>(next.data());
          given.estimate = static_cast<float*>(estimate.data());
          given.input = input.data();
          REQUIRE(guided_step(given, Run{}) == 0);
          const auto as_map = [&](const at::Tensor& memory) { return last ? memory.permute({0, 3, 1, 2}) : memory; };
          CHECK(relative_error(as_map(next.checked()), expected.latents) < 1e-6);
          CHECK(relative_error(as_map(estimate.checked()), expected.estimate) < 1e-6);
          CHECK(relative_error(input.checked().permute({0, 3, 1, 2}), expected.input) < tolerance(dtype));

          // The row itself, without an index or noise.
          given.step = nullptr;
          given.noise = nullptr;
          given.coefficients = table[1].const_data_ptr<float>();
          given.estimate = nullptr;
          REQUIRE(guided_step(given, Run{}) == 0);
          step.noise = at::Tensor();
          CHECK(relative_error(as_map(next.checked()), ip2p::libtorch_kernels().guided_step(step).latents) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("CUDA kernels refuse more threads than they can number", "[kernels]") {
  CHECK(geglu_forward(GegluArguments{.rows = std::int64_t{1} << 28, .hidden = 8 << 10}, Run{}) == invalid_value);
}
