#pragma once

/// \file
/// Choice of device and dtype, by name or by what the machine has.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/Utils.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// `cuda:0` where this build of LibTorch sees a CUDA device, else the CPU.
inline at::Device best_device() { return at::hasCUDA() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }

/// The dtype that is fastest on `device` without leaving the tolerance of the published results:
/// bf16 on CUDA devices and on CPUs with AMX tiles, else fp32. CPU features are read at run time.
inline at::ScalarType best_dtype(at::Device device) {
  if (device.is_cuda()) return at::kBFloat16;
  const auto features = at::cpu::get_cpu_capabilities();
  const auto amx = features.find("amx_bf16");
  return amx != features.end() && amx->second.toBool() ? at::kBFloat16 : at::kFloat;
}

/// Parses "cpu", "cuda", "cuda:1" or "auto" (= `best_device()`). Throws `Error` for other names and absent devices.
inline at::Device parse_device(std::string_view name) {
  if (name == "auto") return best_device();
  if (name == "cpu") return at::kCPU;
  if (name.starts_with("cuda")) {
    require(at::hasCUDA(), "device '{}': expected a CUDA device, found none that LibTorch can use", name);
    try {
      at::Device device{std::string(name)};
      if (!device.has_index()) device.set_index(0);
      return device;
    } catch (const c10::Error&) {
      // Falls through to the message below.
    }
  }
  fail("device '{}': expected auto, cpu, cuda or cuda:N", name);
}

/// Parses "fp32", "bf16", "fp16" or "auto" (= `best_dtype(device)`). Throws `Error` for other names.
inline at::ScalarType parse_dtype(std::string_view name, at::Device device) {
  if (name == "auto") return best_dtype(device);
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  fail("dtype '{}': expected auto, fp32, bf16 or fp16", name);
}

}  // namespace ip2p
