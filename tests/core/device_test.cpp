#include "ip2p/core/device.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <cstdint>

#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/state.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

struct Layer : Module {
  Layer() { linear = register_module("linear", std::make_shared<Linear>(2, 2)); }
  std::shared_ptr<Linear> linear;
};

struct Model : ModelHandle<Layer> {
  Model() : ModelHandle(std::make_shared<Layer>()) {}
};

/// A layer that was made on another device.
struct ElsewhereLayer : Module {
  ElsewhereLayer() { weight = register_parameter("weight", at::empty({2}, at::kMeta)); }
  at::Tensor weight;
};

bool tf32(at::Float32Op op) {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32;
}

}  // namespace

TEST_CASE("The dtype of a CPU is bf16 where it has tiles for it, and otherwise fp32", "[core]") {
  const auto wanted = ip2p::detail::has_amx_bf16() ? at::kBFloat16 : at::kFloat;
  CHECK(best_dtype(at::kCPU) == wanted);
  CHECK(parse_dtype("auto", at::kCPU) == wanted);
  CHECK(parse_dtype("fp16", at::kCPU) == at::kHalf);
  CHECK_THROWS_WITH(parse_dtype("fp8", at::kCPU), Catch::Contains("expected auto, fp32, bf16 or fp16"));
}

TEST_CASE("A processor gets the dtype that it is fast in, if the system saves its registers", "[core]") {
  using ip2p::detail::CpuFeatures;
  const auto dtype = ip2p::detail::cpu_dtype;
  const std::uint32_t avx2 = 1U << 5;  // in EBX
  const std::uint32_t avx512 = avx2 | 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;
  const std::uint32_t tiles = 1U << 24;  // in EDX
  const std::uint32_t bf16_tiles = tiles | 1U << 22;
  const std::uint32_t sse_and_avx = 0x7, avx512_state = 0xe7, tile_state = 0x600e7;
  struct Processor {
    const char* name;
    CpuFeatures features;
    bool avx512;
    at::ScalarType dtype;
  };
  for (const auto& one :
       {Processor{"without vectors", {}, false, at::kFloat},
        Processor{"AVX2", {.saved = sse_and_avx, .ebx = avx2}, false, at::kFloat},
        // Whether it has avx512_bf16 is told elsewhere and must not matter.
        Processor{"AVX-512", {.saved = avx512_state, .ebx = avx512}, true, at::kFloat},
        Processor{"AVX-512 that the system does not save", {.saved = sse_and_avx, .ebx = avx512}, false, at::kFloat},
        Processor{"AMX", {.saved = tile_state, .ebx = avx512, .edx = bf16_tiles}, true, at::kBFloat16},
        Processor{"AMX that the system does not save",
                  {.saved = avx512_state, .ebx = avx512, .edx = bf16_tiles},
                  true,
                  at::kFloat},
        Processor{"tiles without bf16", {.saved = tile_state, .ebx = avx512, .edx = tiles}, true, at::kFloat}}) {
    INFO(one.name);
    CHECK(ip2p::detail::has_avx512(one.features) == one.avx512);
    CHECK(dtype(one.features) == one.dtype);
  }
  CHECK(best_dtype(at::kCPU) == dtype(ip2p::detail::cpu_features()));

  const std::uint32_t wide_bytes = 1U << 11, bytes = 1U << 4;  // VNNI: in ECX, and in EAX of part 1
  CHECK(ip2p::detail::has_avx512_vnni({.saved = avx512_state, .ebx = avx512, .ecx = wide_bytes}));
  CHECK_FALSE(ip2p::detail::has_avx512_vnni({.saved = avx512_state, .ebx = avx512}));
  CHECK_FALSE(ip2p::detail::has_avx512_vnni({.saved = sse_and_avx, .ebx = avx512, .ecx = wide_bytes}));
  CHECK(ip2p::detail::has_avx_vnni({.saved = sse_and_avx, .ebx = avx2, .eax_1 = bytes}));
  CHECK_FALSE(ip2p::detail::has_avx_vnni({.saved = sse_and_avx, .ebx = avx2, .ecx = wide_bytes}));
  CHECK_FALSE(ip2p::detail::has_avx_vnni({.ebx = avx2, .eax_1 = bytes}));
}

TEST_CASE("A GPU that is not there is refused in words, by whatever is to use it", "[core]") {
  const auto index = static_cast<at::DeviceIndex>(ip2p::detail::cuda_device_count());
  const at::Device missing(at::kCUDA, index);
  const auto words = Catch::Contains("device 'cuda:" + std::to_string(index) + "': expected");
  CHECK_THROWS_WITH(best_dtype(missing), words);
  Model model;
  CHECK_THROWS_WITH(model.to(missing, at::kFloat), words);
  CHECK(model.device() == at::Device(at::kCPU));
}

TEST_CASE("TF32 is off from the first use of a GPU on, unless the program asks for it", "[core]") {
  std::call_once(ip2p::detail::tf32_decided, [] { ip2p::detail::set_tf32(false); });  // as a GPU's first use does
  for (const auto op : {at::Float32Op::CONV, at::Float32Op::RNN, at::Float32Op::MATMUL}) CHECK_FALSE(tf32(op));
  for (const bool allowed : {true, false, true}) {
    allow_tf32(allowed);
    for (const auto op : {at::Float32Op::CONV, at::Float32Op::MATMUL}) CHECK(tf32(op) == allowed);
    CHECK(at::globalContext().allowTF32CuBLAS() == allowed);
    // A GPU's first use after the program has asked changes nothing.
    std::call_once(ip2p::detail::tf32_decided, [] { ip2p::detail::set_tf32(false); });
    CHECK(tf32(at::Float32Op::CONV) == allowed);
  }
  allow_tf32(false);
}

TEST_CASE("Runs on a GPU let cuDNN measure its algorithms, unless it may not", "[core]") {
  auto& context = at::globalContext();
  const auto measures_after = [&](at::Device device) {
    benchmark_convolutions(device);
    return context.benchmarkCuDNN();
  };
  const at::Device gpu(at::kCUDA, 0);
  context.setBenchmarkCuDNN(false);
  CHECK_FALSE(measures_after(at::kCPU));
  CHECK(measures_after(gpu));
  allow_convolution_benchmark(false);
  CHECK_FALSE(measures_after(gpu));
  allow_convolution_benchmark(true);
  CHECK(measures_after(gpu));
  context.setBenchmarkCuDNN(false);
  context.setDeterministicCuDNN(true);
  CHECK_FALSE(measures_after(gpu));
  context.setDeterministicCuDNN(false);
}

TEST_CASE("What is on its device already is not copied", "[core]") {
  const auto values = at::ones({3});
  CHECK(ip2p::detail::to_device(values, at::kCPU).is_same(values));
  CHECK(ip2p::detail::pinned_for(values, at::kCPU).is_same(values));
  CHECK_FALSE(ip2p::detail::pinned_for({}, at::kCPU).defined());
  CHECK(ip2p::detail::to_device(values, at::kMeta).device() == at::Device(at::kMeta));
}

TEST_CASE("Weights are loaded to where the module is", "[core]") {
  ElsewhereLayer layer;
  load_weights(layer, {{"weight", WeightEntry{{2}, at::kFloat, [] { return at::ones({2}); }}}}, "here");
  CHECK(layer.weight.device() == at::Device(at::kMeta));
}
