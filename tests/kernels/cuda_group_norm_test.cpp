// The very kernels of the device, run thread after thread on the host, against LibTorch in fp64.

#include "ip2p/kernels/cuda/group_norm.cuh"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/run_on_host.hpp"
#include "support/catch.hpp"

namespace {

using namespace on_host;

constexpr DeviceLimits h100{.multiprocessors = 132, .compute_major = 9, .shared_bytes = 227 << 10};
constexpr DeviceLimits a100{.multiprocessors = 108, .compute_major = 8, .shared_bytes = 163 << 10};
constexpr DeviceLimits small{.multiprocessors = 16, .compute_major = 9, .shared_bytes = 227 << 10};
// With so little shared memory no map is kept.
constexpr DeviceLimits narrow{.multiprocessors = 132, .compute_major = 9, .shared_bytes = 25 << 10};

struct NormCase {
  std::int64_t samples, channels, height, width, groups;
  at::ScalarType dtype;
  DeviceLimits limits;
  bool whole;              ///< Which way it must take.
  int blocks;              ///< How many blocks must share a slice; 0: any.
  std::int64_t shift = 0;  ///< Elements by which x misses the alignment.
  at::ScalarType parameters = at::kFloat;
};

const std::vector<NormCase> norm_cases{
    // UNet's and autoencoder's channels a group, 10, 20, 40, 4 and 8, on both kinds of device
    {2, 320, 6, 7, 32, at::kFloat, h100, true, 1},
    {2, 320, 6, 7, 32, at::kBFloat16, h100, true, 1, 0, at::kBFloat16},
    {1, 320, 64, 64, 32, at::kFloat, h100, true, 8},
    {1, 320, 64, 64, 32, at::kHalf, h100, true, 8},
    {1, 640, 33, 31, 32, at::kBFloat16, small, true, 4},
    {2, 64, 20, 20, 8, at::kFloat, small, true, 2},
    {1, 640, 33, 31, 32, at::kFloat, a100, true, 1},
    {1, 640, 48, 50, 32, at::kFloat, a100, false, 0},
    {1, 1280, 8, 8, 32, at::kHalf, a100, true, 1, 0, at::kHalf},
    {2, 128, 45, 45, 32, at::kBFloat16, narrow, false, 0},
    {1, 256, 90, 60, 32, at::kFloat, narrow, false, 0},
    {1, 2560, 4, 4, 32, at::kBFloat16, h100, true, 1},
    // a single pixel, a single group, groups of one channel, more blocks than pixels
    {3, 64, 1, 1, 8, at::kFloat, h100, true, 1},
    {2, 24, 9, 4, 1, at::kFloat, h100, true, 1},
    {2, 32, 11, 4, 32, at::kBFloat16, h100, true, 1},
    // sizes that make no whole vectors, and memory that is not aligned
    {2, 33, 7, 5, 3, at::kFloat, h100, false, 0},
    {1, 33, 40, 41, 3, at::kHalf, h100, false, 0},
    {2, 30, 9, 9, 3, at::kBFloat16, a100, false, 0},
    {2, 64, 6, 5, 16, at::kBFloat16, h100, false, 0, 1},
    {1, 250, 3, 3, 1, at::kFloat, h100, false, 2},
};

std::string text(const NormCase& c) {
  return std::to_string(c.samples) + "x" + std::to_string(c.channels) + "x" + std::to_string(c.height) + "x" +
         std::to_string(c.width) + " in " + std::to_string(c.groups) + " groups, " + c10::toString(c.dtype);
}

struct NormInputs {
  at::Tensor x, add, weight, bias, dy;  ///< Maps [N, pixels, C].
};

NormInputs inputs_of(const NormCase& c) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const auto pixels = c.height * c.width;
  const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, generator, at::kFloat); };
  // A mean that is far from 0 shows sums that lose digits.
  return {shifted_copy((random({c.samples, pixels, c.channels}) + 3).to(c.dtype), c.shift),
          random({c.samples, c.channels}).to(c.parameters), random({c.channels}).to(c.parameters),
          random({c.channels}).to(c.parameters),
          shifted_copy(random({c.samples, pixels, c.channels}).to(c.dtype), c.shift)};
}

AnyNumbers parameters_of(const at::Tensor& tensor) {
  return {.data = tensor.const_data_ptr(), .number = number_of_dtype(tensor.scalar_type())};
}

void fill(GroupNormInputs& given, const NormCase& c, const NormInputs& in, bool with_add, bool silu) {
  given.shape = {c.samples, c.height * c.width, c.channels, c.groups};
  given.number = number_of_dtype(c.dtype);
  given.x = in.x.const_data_ptr();
  if (with_add) {
    given.add = parameters_of(in.add);
    given.add_stride = c.channels;
  }
  given.weight = parameters_of(in.weight);
  given.bias = parameters_of(in.bias);
  given.silu = silu;
}

struct NormResults {
  at::Tensor y, mean, inverse, dx, dadd, dweight, dbias;
};

NormResults run_both(const NormCase& c, const NormInputs& in, bool with_add, bool silu, const Run& run) {
  const auto pixels = c.height * c.width;
  const Guarded y({c.samples, pixels, c.channels}, c.dtype, c.shift);
  const Guarded mean({c.samples, c.groups}, at::kFloat), inverse({c.samples, c.groups}, at::kFloat);
  GroupNormForwardArguments forward;
  fill(forward, c, in, with_add, silu);
  forward.eps = 1e-5F;
  forward.y = y.data();
  forward.mean = static_cast<float*>(mean.data());
  forward.inverse = static_cast<float*>(inverse.data());
  const auto plan = plan_of(forward, c.limits);
  REQUIRE(plan.possible);
  CHECK(plan.whole == c.whole);
  if (c.blocks > 0) CHECK(plan.blocks == c.blocks);
  const auto floats = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes / sizeof(float)); };
  const Guarded workspace({floats(workspace_bytes(forward, plan))}, at::kFloat);
  REQUIRE(group_norm_forward(forward, plan, workspace.data(), run) == 0);
  (void)workspace.checked();

  const Guarded dx({c.samples, pixels, c.channels}, c.dtype, c.shift);
  const Guarded dadd({c.samples, c.channels}, at::kFloat), dweight({c.channels}, at::kFloat),
      dbias({c.channels}, at::kFloat);
  GroupNormBackwardArguments backward;
  fill(backward, c, in, with_add, silu);
  backward.dy = in.dy.const_data_ptr();
  backward.mean = forward.mean;
  backward.inverse = forward.inverse;
  backward.dx = dx.data();
  backward.dadd = static_cast<float*>(dadd.data());
  backward.dweight = {.data = dweight.data()};
  backward.dbias = {.data = dbias.data()};
  const auto backward_plan = plan_of(backward, c.limits);
  REQUIRE(backward_plan.possible);
  const Guarded backward_workspace({floats(workspace_bytes(backward, backward_plan))}, at::kFloat);
  REQUIRE(group_norm_backward(backward, backward_plan, backward_workspace.data(), run) == 0);
  (void)backward_workspace.checked();
  return {y.checked(),    mean.checked(),    inverse.checked(), dx.checked(),
          dadd.checked(), dweight.checked(), dbias.checked()};
}

NormResults reference(const NormCase& c, const NormInputs& in, bool with_add, bool silu) {
  const auto leaf = [](const at::Tensor& tensor) { return tensor.to(at::kDouble).requires_grad_(); };
  const auto x = leaf(in.x), add = leaf(in.add), weight = leaf(in.weight), bias = leaf(in.bias);
  auto map = with_add ? x + add.unsqueeze(1) : x + 0 * add.unsqueeze(1);
  auto y = at::group_norm(map.transpose(1, 2), c.groups, weight, bias, 1e-5).transpose(1, 2);
  if (silu) y = at::silu(y);
  y.backward(in.dy.to(at::kDouble));
  const auto grouped = map.detach().unflatten(2, {c.groups, c.channels / c.groups}).transpose(1, 2).flatten(2);
  return {y.detach(),    grouped.mean(-1), (grouped.var(-1, false) + 1e-5).rsqrt(), x.grad(), x.grad().sum(1),
          weight.grad(), bias.grad()};
}

}  // namespace

TEST_CASE("CUDA group norm: forward and backward equal LibTorch's, by every way that sizes take", "[kernels]") {
  for (const auto& c : norm_cases) {
    const auto in = inputs_of(c);
    for (const bool whole : {true, false}) {  // with add and silu, without both
      INFO(text(c) << (whole ? " with add and silu" : ""));
      const auto found = run_both(c, in, whole, whole, Run{});
      const auto expected = reference(c, in, whole, whole);
      CHECK(relative_error(found.y, expected.y) < tolerance(c.dtype));
      CHECK(relative_error(found.mean, expected.mean) < 1e-6);
      CHECK(relative_error(found.inverse, expected.inverse) < 2e-6);
      // A single pixel of a group of one channel has no gradient, only rounding.
      CHECK(relative_error(found.dx, expected.dx) < 3 * tolerance(c.dtype));
      CHECK((found.dadd.to(at::kDouble) - expected.dadd).abs().max().item<double>() <
            2e-6 * static_cast<double>(c.height * c.width) * expected.dx.abs().max().item<double>());
      CHECK(relative_error(found.dweight, expected.dweight) < 3e-6);
      CHECK(relative_error(found.dbias, expected.dbias) < 3e-6);
    }
  }
}

TEST_CASE("CUDA group norm: no bit depends on the order of threads between two meetings", "[kernels]") {
  for (const auto& c : norm_cases) {
    INFO(text(c));
    const auto in = inputs_of(c);
    const auto one = run_both(c, in, true, true, Run{});
    const auto other = run_both(c, in, true, true, Run{.backwards = true});
    CHECK(one.y.equal(other.y));
    CHECK(one.dx.equal(other.dx));
    CHECK(one.dadd.equal(other.dadd));
    CHECK(one.dweight.equal(other.dweight));
    CHECK(one.dbias.equal(other.dbias));
  }
}

TEST_CASE("CUDA group norm: a map far from 0 keeps its digits", "[kernels]") {
  // Sums of squares of values around 1000 would leave three digits of a variance of 1.
  NormCase c{1, 32, 16, 16, 4, at::kFloat, h100, true, 1};
  auto in = inputs_of(c);
  in.x = (in.x + 1000).contiguous();
  const auto found = run_both(c, in, false, true, Run{});
  const auto expected = reference(c, in, false, true);
  CHECK(relative_error(found.inverse, expected.inverse) < 1e-6);
  // x * scale is rounded to half a unit of 1000 times the weight.
  CHECK((found.y.to(at::kDouble) - expected.y).abs().max().item<double>() < 1e-3);
}

TEST_CASE("CUDA group norm: sizes that no kernel takes are refused, and every plan fits its device", "[kernels]") {
  CHECK_FALSE(plan_map({1, 16, 10, 3}, Number::fp32, true, h100, 1, 2).possible);
  CHECK_FALSE(plan_map({1, 16, 600, 2}, Number::fp32, true, h100, 1, 2).possible);
  CHECK_FALSE(plan_map({0, 16, 32, 2}, Number::fp32, true, h100, 1, 2).possible);
  CHECK_FALSE(plan_map({70000, 16, 32, 2}, Number::fp32, true, h100, 1, 2).possible);
  for (const auto& limits : {h100, a100, DeviceLimits{4, 8, 99 << 10}}) {
    for (const auto number : {Number::fp32, Number::bf16}) {
      for (const bool vectors : {true, false}) {
        for (std::int64_t group_channels = 1; group_channels <= 256; ++group_channels) {
          for (const std::int64_t groups : {1, 3, 8, 32}) {
            for (const std::int64_t side : {1, 5, 64, 512}) {
              const MapShape shape{2, side * side, groups * group_channels, groups};
              const auto plan = plan_map(shape, number, vectors, limits, 2, 3);
              const bool good = plan.possible && plan.shared_bytes <= limits.shared_bytes && plan.rows >= 1 &&
                                plan.rows * plan.row_vectors <= map_threads && plan.slice_groups <= 8 &&
                                plan.slice_groups * plan.slices == groups &&
                                plan.row_vectors * plan.vector == plan.slice_channels && plan.blocks >= 1 &&
                                plan.blocks * plan.block_pixels >= shape.pixels &&
                                (!plan.whole || plan.blocks <= (limits.compute_major >= 9 ? 8 : 1));
              if (!good) FAIL(group_channels << " channels in each of " << groups << " groups, side " << side);
            }
          }
        }
      }
    }
  }
}
