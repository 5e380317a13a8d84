#pragma once

/// \file
/// Choosing a device and a dtype, by name or to suit the machine.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Device.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/ScalarType.h>

#include <charconv>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>

#include "ip2p/core/cpu_features.hpp"
#include "ip2p/core/error.hpp"

namespace ip2p {

namespace detail {

/// Number of CUDA devices that this process sees; 0 if this build of LibTorch has no CUDA.
inline std::int64_t cuda_device_count() { return at::hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0; }

/// The N of "cuda:N", or nothing for plain "cuda". Throws `Error` for other names.
inline std::optional<std::int64_t> cuda_index(std::string_view name) {
  constexpr std::string_view kind = "cuda";
  if (name == kind) return std::nullopt;
  std::int64_t index = -1;
  const bool numbered = name.starts_with(kind) && name.size() > kind.size() + 1 && name[kind.size()] == ':';
  if (numbered) {
    const char* end = name.data() + name.size();
    const auto [last, problem] = std::from_chars(name.data() + kind.size() + 1, end, index);
    if (problem != std::errc() || last != end) index = -1;
  }
  require(index >= 0, "device '{}': expected auto, cpu, cuda or cuda:N", name);
  return index;
}

/// CUDA device `index` out of `count`. Throws `Error` if there is no such device.
inline at::Device cuda_device(std::string_view name, std::int64_t index, std::int64_t count) {
  require(count > 0, "device '{}': expected a CUDA device, found none that LibTorch can use", name);
  require(index < count, "device '{}': expected an index below {}, the number of CUDA devices that this process sees",
          name, count);
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

/// Throws `Error` for a CUDA device that this process does not see.
inline void require_device(at::Device device) {
  if (!device.is_cuda()) return;
  static_cast<void>(cuda_device(device.str(), device.has_index() ? device.index() : 0, cuda_device_count()));
}

/// Set once TF32 has been decided on, by the program or else by the library's default.
inline std::once_flag tf32_decided;

inline void set_tf32(bool allowed) {
  auto& context = at::globalContext();
  const auto precision = allowed ? at::Float32Precision::TF32 : at::Float32Precision::IEEE;
  for (const auto op : {at::Float32Op::CONV, at::Float32Op::RNN}) {
    context.setFloat32Precision(at::Float32Backend::CUDA, op, precision);
  }
  // TF32 is off for matrix products by default, and setting it prints LibTorch's warning about the function's name.
  if (context.allowTF32CuBLAS() != allowed) context.setAllowTF32CuBLAS(allowed);
}

/// Called before anything is put on `device`: checks that it exists and, the first time that it is a GPU, makes fp32
/// mean fp32 there. \throws Error as `require_device`
inline void prepare_device(at::Device device) {
  if (!device.is_cuda()) return;
  require_device(device);
  std::call_once(tf32_decided, [] { set_tf32(false); });
}

/// `parse_device` on a machine with `count` CUDA devices.
inline at::Device parse_device(std::string_view name, std::int64_t count) {
  if (name == "cpu" || (name == "auto" && count == 0)) return at::kCPU;
  if (name == "auto") return {at::kCUDA, 0};
  return cuda_device(name, cuda_index(name).value_or(0), count);
}

}  // namespace detail

/// Whether fp32 convolutions and matrix products on a GPU may round their factors to TF32, which keeps 10 of the 23
/// bits of a fraction and is several times as fast. It holds for the whole process and concerns neither the CPU nor
/// 16-bit arithmetic.
///
/// LibTorch allows it for convolutions. This library does not: the first model that is moved to a GPU switches it off,
/// unless this function was called before. So fp32 gives the published results on every device, and a program that
/// wants the speed asks for it here, at any time.
inline void allow_tf32(bool allowed) {
  std::call_once(detail::tf32_decided, [] {});
  detail::set_tf32(allowed);
}

/// `cuda:0` if LibTorch sees a CUDA device, otherwise the CPU.
inline at::Device best_device() { return at::hasCUDA() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }

namespace detail {

/// `best_dtype` of a CPU with these features.
inline at::ScalarType cpu_dtype(const CpuFeatures& cpu) { return has_amx_bf16(cpu) ? at::kBFloat16 : at::kFloat; }

}  // namespace detail

/// The fastest dtype on `device` that stays within tolerance of the published results: bf16 on CUDA devices of compute
/// capability 8.0 or newer and on CPUs with AMX tiles, fp16 on older CUDA devices, otherwise fp32. CPU and GPU features
/// are detected at run time. A CPU that knows bf16 but has no tiles (avx512_bf16) gets fp32, which is faster there.
/// \throws Error for a CUDA device that does not exist
inline at::ScalarType best_dtype(at::Device device) {
  if (device.is_cuda()) {
    detail::require_device(device);
    // cuDNN's own test before a bf16 convolution: does the current device have capability 8.0?
    const c10::DeviceGuard guard(device);
    return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8() ? at::kBFloat16 : at::kHalf;
  }
  return detail::cpu_dtype(detail::cpu_features());
}

/// Parses "cpu", "cuda" (the first GPU), "cuda:N" or "auto" (= `best_device()`). Throws `Error` for other names and for
/// devices that do not exist. Multi-process programs should call `device_for` (parallel/device_for.hpp) instead.
inline at::Device parse_device(std::string_view name) {
  return detail::parse_device(name, detail::cuda_device_count());
}

/// Parses "fp32", "bf16", "fp16" or "auto" (= `best_dtype(device)`). Throws `Error` for other names.
inline at::ScalarType parse_dtype(std::string_view name, at::Device device) {
  if (name == "auto") return best_dtype(device);
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  throw_error("dtype '{}': expected auto, fp32, bf16 or fp16", name);
}

}  // namespace ip2p
