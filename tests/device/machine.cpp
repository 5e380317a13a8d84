// The machine itself: what it is, how fast it can be at best, and which attention backend serves which shape.

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <fmt/format.h>
#include <torch/version.h>

#ifdef IP2P_HAS_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <cuda_runtime_api.h>
#endif

#include <algorithm>
#include <array>
#include <string>

#include "device/check.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/core/device.hpp"

namespace ip2p::device_check {

namespace {

void machine(const Settings& settings, Report& report) {
  report.note("LibTorch", TORCH_VERSION);
  report.note("device", settings.device.str());
  report.note("best dtype", dtype_name(best_dtype(settings.device)));
#ifdef IP2P_HAS_CUDA
  if (settings.device.is_cuda()) {
    const auto* card = at::cuda::getDeviceProperties(settings.device.has_index() ? settings.device.index() : 0);
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    report.note("card", fmt::format("{}, capability {}.{}, {} multiprocessors, L2 {:.0f} MiB", card->name, card->major,
                                    card->minor, card->multiProcessorCount, card->l2CacheSize / 1048576.0));
    report.note("CUDA",
                fmt::format("driver {}.{}, runtime {}.{}, cuDNN {}", driver / 1000, driver % 1000 / 10, runtime / 1000,
                            runtime % 1000 / 10, at::detail::getCUDAHooks().versionRuntimeCuDNN()));
    report.measure("memory", static_cast<double>(card->totalGlobalMem) / (1024.0 * 1024.0 * 1024.0), "GiB");
    report.expect("bf16 is the dtype from capability 8 on",
                  (best_dtype(settings.device) == at::kBFloat16) == (card->major >= 8),
                  dtype_name(best_dtype(settings.device)));
  }
#endif
  const at::NoGradGuard no_grad;
  // What a program that moves a model to the device and sets nothing gets: fp32 must mean fp32. TF32 has 10 bits, an
  // error of about 3e-4.
  TinyAutoencoder model({.channels = 16});
  model.to(settings.device, at::kFloat);
  const auto a = at::randn({256, 256}), b = at::randn({256, 256});
  const auto x = at::randn({2, 32, 24, 24}), w = at::randn({32, 32, 3, 3});
  const auto on = [&](const at::Tensor& t) { return t.to(settings.device); };
  report.compare("fp32 products are fp32",
                 relative_error(at::matmul(on(a), on(b)), at::matmul(a.to(at::kDouble), b.to(at::kDouble))), 1e-5);
  report.compare("fp32 convolutions are fp32",
                 relative_error(at::conv2d(on(x), on(w)), at::conv2d(x.to(at::kDouble), w.to(at::kDouble))), 1e-5);
}

void ceilings(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const auto options = at::TensorOptions().device(settings.device);
  const std::int64_t megabytes = settings.small ? 8 : 2048, side = settings.small ? 128 : 8192;
  const int repetitions = settings.small ? 3 : 10;
  {
    const auto from = at::empty({megabytes << 18}, options.dtype(at::kFloat)).fill_(1), to = at::empty_like(from);
    // Several copies a measurement, so that the wait at its end weighs little.
    const double seconds = median_seconds(settings.device, repetitions, [&] {
      for (int i = 0; i < 8; ++i) to.copy_(from);
    });
    report.measure("copy, bytes read and written", 8.0 * 2.0 * static_cast<double>(from.nbytes()) / seconds / 1e9,
                   "GB/s");
  }
  const auto product = [&](const std::string& name, at::ScalarType dtype) {
    report.attempt(name, [&] {
      const auto a = at::randn({side, side}, options).to(dtype), b = at::randn({side, side}, options).to(dtype);
      const double seconds = median_seconds(settings.device, repetitions, [&] {
        for (int i = 0; i < 4; ++i) (void)at::matmul(a, b);
      });
      const auto n = static_cast<double>(side);
      report.measure(fmt::format("{0} product of {1}x{1}", name, side), 4.0 * 2.0 * n * n * n / seconds / 1e12,
                     "TFLOP/s");
    });
  };
  product("fp32", at::kFloat);
  if (settings.device.is_cuda()) {
    const bool before = at::globalContext().allowTF32CuBLAS();
    at::globalContext().setAllowTF32CuBLAS(true);
    product("tf32", at::kFloat);
    at::globalContext().setAllowTF32CuBLAS(before);
  } else {
    report.skip("tf32 product", "only NVIDIA's cards have this arithmetic");
  }
  product("bf16", at::kBFloat16);
  product("fp16", at::kHalf);
}

/// Names of at::SDPBackend, whose header needs those of CUDA in a build with it.
std::string backend_name(std::int64_t backend) {
  constexpr std::array names{"math", "flash", "memory-efficient", "cuDNN"};
  return backend >= 0 && backend < static_cast<std::int64_t>(names.size()) ? names[static_cast<std::size_t>(backend)]
                                                                           : fmt::format("backend {}", backend);
}

void attention_backends(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const std::int64_t pixels = settings.small ? 64 : 1024;
  for (const std::int64_t head : {40, 80, 160, 512}) {
    for (const auto dtype : every_dtype) {
      const auto tensor = [&](std::int64_t tokens) {
        return at::randn({2, 4, tokens, head}, at::TensorOptions().device(settings.device)).to(dtype);
      };
      const auto name = fmt::format("head size {}, {}", head, dtype_name(dtype));
      report.attempt(name, [&] {
        const auto q = tensor(pixels), k = tensor(pixels), v = tensor(pixels), text_k = tensor(77), text_v = tensor(77);
        const double ms =
            1e3 * median_seconds(settings.device, 3, [&] { (void)at::scaled_dot_product_attention(q, k, v); });
        report.note(name, fmt::format("self-attention of {} tokens {} ({:.3f} ms), cross-attention to 77 {}", pixels,
                                      backend_name(at::_fused_sdp_choice(q, k, v)), ms,
                                      backend_name(at::_fused_sdp_choice(q, text_k, text_v))));
      });
    }
  }
}

}  // namespace

std::vector<Part> machine_steps() {
  return {{"machine", false, machine}, {"ceilings", true, ceilings}, {"attention_backends", false, attention_backends}};
}

}  // namespace ip2p::device_check
