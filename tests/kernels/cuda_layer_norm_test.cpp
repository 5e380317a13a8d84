// The very kernels of the device, run thread after thread on the host, against LibTorch in fp64.

#include "ip2p/kernels/cuda/layer_norm.cuh"

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/randn.h>

#include <cstdint>
#include <vector>

#include "kernels/run_on_host.hpp"
#include "support/catch.hpp"

namespace {

using namespace on_host;

struct RowCase {
  std::int64_t rows, channels;
  at::ScalarType dtype, parameters;
  std::int64_t shift = 0;
};

const std::vector<RowCase> row_cases{
    {7, 320, at::kFloat, at::kFloat},  {5, 1280, at::kFloat, at::kFloat},    {9, 320, at::kBFloat16, at::kBFloat16},
    {130, 640, at::kHalf, at::kFloat}, {3, 1280, at::kBFloat16, at::kFloat}, {6, 3000, at::kHalf, at::kHalf},
    {2, 4096, at::kFloat, at::kFloat}, {1, 8, at::kBFloat16, at::kBFloat16}, {11, 33, at::kFloat, at::kFloat},
    {4, 1, at::kFloat, at::kFloat},    {5, 77, at::kHalf, at::kFloat},       {5, 64, at::kBFloat16, at::kFloat, 1},
    {700, 24, at::kFloat, at::kFloat},
};

struct RowResults {
  at::Tensor sum, y, dx, dweight, dbias;
};

RowResults run_rows(const RowCase& c, bool with_residual, const Run& run, bool against_reference) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(9);
  const auto random = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    return shifted_copy(at::randn(sizes, generator, at::kFloat).to(dtype), c.shift);
  };
  const auto x = shifted_copy(random({c.rows, c.channels}, c.dtype) + 2, c.shift);
  const auto residual = random({c.rows, c.channels}, c.dtype), dy = random({c.rows, c.channels}, c.dtype),
             dsum = random({c.rows, c.channels}, c.dtype);
  const auto weight = random({c.channels}, c.parameters), bias = random({c.channels}, c.parameters);

  const Guarded sum({c.rows, c.channels}, c.dtype, c.shift), y({c.rows, c.channels}, c.dtype, c.shift),
      dx({c.rows, c.channels}, c.dtype, c.shift);
  const Guarded mean({c.rows}, at::kFloat), inverse({c.rows}, at::kFloat), dweight({c.channels}, c.parameters),
      dbias({c.channels}, at::kFloat);
  LayerNormForwardArguments forward;
  forward.rows = c.rows;
  forward.channels = c.channels;
  forward.number = number_of_dtype(c.dtype);
  forward.x = x.const_data_ptr();
  forward.residual = with_residual ? residual.const_data_ptr() : nullptr;
  forward.parameter_number = number_of_dtype(c.parameters);
  forward.weight = weight.const_data_ptr();
  forward.bias = bias.const_data_ptr();
  forward.sum = with_residual ? sum.data() : nullptr;
  forward.y = y.data();
  forward.mean = static_cast<float*>(mean.data());
  forward.inverse = static_cast<float*>(inverse.data());
  REQUIRE(add_layer_norm_forward(forward, run) == 0);

  LayerNormBackwardArguments backward;
  backward.rows = c.rows;
  backward.channels = c.channels;
  backward.number = forward.number;
  backward.sum = with_residual ? sum.data() : x.const_data_ptr();
  backward.dy = dy.const_data_ptr();
  backward.dsum = with_residual ? dsum.const_data_ptr() : nullptr;
  backward.weight = {.data = weight.const_data_ptr(), .number = forward.parameter_number};
  backward.mean = forward.mean;
  backward.inverse = forward.inverse;
  backward.dx = dx.data();
  backward.dweight = {.data = dweight.data(), .number = forward.parameter_number};
  backward.dbias = {.data = dbias.data()};
  const Guarded workspace({static_cast<std::int64_t>(workspace_bytes(backward) / sizeof(float))}, at::kFloat);
  REQUIRE(add_layer_norm_backward(backward, workspace.data(), run) == 0);
  (void)workspace.checked();

  if (against_reference) {
    const auto leaf = [](const at::Tensor& tensor) { return tensor.to(at::kDouble).detach().requires_grad_(); };
    const auto rounded = (with_residual ? (x.to(at::kFloat) + residual.to(at::kFloat)).to(c.dtype) : x);
    if (with_residual) CHECK(sum.checked().equal(rounded));
    const auto total = leaf(rounded), w = leaf(weight), b = leaf(bias);
    const auto expected = at::layer_norm(total, {c.channels}, w, b, 1e-5);
    expected.backward(dy.to(at::kDouble));
    const auto gradient = with_residual ? total.grad() + dsum.to(at::kDouble) : total.grad();
    CHECK(relative_error(y.checked(), expected.detach()) < tolerance(c.dtype));
    if (c.channels > 1) CHECK(relative_error(dx.checked(), gradient) < 2 * tolerance(c.dtype));
    if (c.channels > 1) CHECK(relative_error(dweight.checked(), w.grad()) < 3 * tolerance(c.parameters));
    CHECK(relative_error(dbias.checked(), b.grad()) < 2e-6);
  }
  return {sum.checked(), y.checked(), dx.checked(), dweight.checked(), dbias.checked()};
}

}  // namespace

TEST_CASE("CUDA layer norm: sum, normalisation and gradients equal LibTorch's", "[kernels]") {
  for (const auto& c : row_cases) {
    for (const bool with_residual : {true, false}) {
      INFO(c.rows << "x" << c.channels << " of " << c10::toString(c.dtype) << (with_residual ? " with residual" : ""));
      run_rows(c, with_residual, Run{}, true);
    }
  }
}

TEST_CASE("CUDA layer norm: no bit depends on the order of threads between two meetings", "[kernels]") {
  for (const auto& c : row_cases) {
    INFO(c.rows << "x" << c.channels << " of " << c10::toString(c.dtype));
    const auto one = run_rows(c, true, Run{}, false);
    const auto other = run_rows(c, true, Run{.backwards = true}, false);
    CHECK(one.sum.equal(other.sum));
    CHECK(one.y.equal(other.y));
    CHECK(one.dx.equal(other.dx));
    CHECK(one.dweight.equal(other.dweight));
    CHECK(one.dbias.equal(other.dbias));
  }
}

TEST_CASE("CUDA layer norm: parameters of a third type are refused", "[kernels]") {
  LayerNormForwardArguments given;
  given.number = Number::bf16;
  given.parameter_number = Number::fp16;
  CHECK(add_layer_norm_forward(given, Run{}) == invalid_value);
}
