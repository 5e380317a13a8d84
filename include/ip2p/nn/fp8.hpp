#pragma once

/// \file
/// Linear layers in 8 bits (fp8), for inference on devices that multiply them faster. Approximate.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/nn/fp8_weight.hpp"
#include "ip2p/nn/layers.hpp"

namespace ip2p {

namespace detail {

/// Whether `use_fp8` takes the layer of that name: of a transformer over the picture, evaluated at every step, in
/// multiples of 16, as products in 8 bits need.
inline bool suits_fp8(std::string_view name, const Linear& layer) {
  const auto shape = layer.weight_shape();
  return name.find("attentions.") != name.npos && !name.ends_with("to_kv") && shape[0] % 16 == 0 && shape[1] % 16 == 0;
}

/// \throws Error unless products in 8 bits can be computed on `device`
inline void require_fp8(at::Device device) {
  std::string problem;
  try {
    static_cast<void>(fp8_linear(at::ones({16, 16}, at::TensorOptions(at::kBFloat16).device(device)),
                                 to_fp8(at::ones({16, 16}, at::TensorOptions(at::kBFloat16).device(device))), {}));
    return;
  } catch (const std::exception& error) {
    problem = error.what();
  }
  throw_error(
      "fp8: expected a device that multiplies in 8 bits (a GPU of compute capability 8.9 or newer), found {}: {}",
      device.str(), problem.substr(0, problem.find('\n')));
}

}  // namespace detail

/// Computes the linear layers of a UNet's transformers in 8 bits (float8_e4m3fn) from now on, where no gradients are
/// recorded and autocast is off: weights are rounded once, with one scale for each layer, and a layer's input at every
/// call. The plain weights stay, so that `drop_fp8` brings back equal bits; the others take half as much memory again
/// as these layers do in 16 bits. LoRAs are added in full precision.
///
/// An approximation: a product of random factors has an error of about 4 % of its deviation, ten times that of bf16.
/// Moving or converting the model drops the form. After a change of the weights call this again. Must not run
/// concurrently with calls.
/// \param model a `UNet` or another model with transformers  \return the number of layers changed
/// \throws Error if the model's device does not multiply in 8 bits; then nothing is changed
template <class Model>
std::int64_t use_fp8(const Model& model) {
  const at::NoGradGuard no_grad;
  detail::require_fp8(model.device());
  std::int64_t count = 0;
  for (const auto& [name, part] : model.module().named_modules()) {
    auto* layer = dynamic_cast<Linear*>(part);
    if (layer == nullptr || !detail::suits_fp8(name, *layer)) continue;
    layer->fp8 =
        std::make_shared<const detail::Fp8>(detail::to_fp8(layer->plain_weight().detach().flatten(1).contiguous()));
    ++count;
  }
  note_model_change();
  return count;
}

/// Undoes `use_fp8`: results are bit-identical to those before it. Must not run concurrently with calls.
template <class Model>
void drop_fp8(const Model& model) {
  for (auto* part : model.module().modules()) {
    if (auto* host = dynamic_cast<Fp8Host*>(part)) host->fp8.reset();
  }
  note_model_change();
}

}  // namespace ip2p
