#pragma once

/// \file
/// Weights of a network in 8 bits (int8), for inference on a CPU in a third of the memory. Approximate.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/int8_weight.hpp"
#include "ip2p/nn/layers.hpp"

namespace ip2p {

namespace detail {

/// Whether `use_int8` takes the layer of that name: of a transformer over the picture. The embedding of the time is a
/// single row that everything depends on.
inline bool suits_int8(std::string_view name, const Linear& layer) {
  const auto shape = layer.weight_shape();
  return name.find("attentions.") != name.npos && shape[0] % 16 == 0 && shape[1] % 16 == 0 &&
         shape[1] <= cpu::int8_most_depth;
}

/// Whether `use_int8` takes the convolution: one that Winograd's filtering computes. Convolutions of 1x1 and of stride
/// 2 are a few per cent of a network; the first and the last one read and write its latents.
inline bool suits_int8(std::string_view name, const Conv2d& layer) {
  const auto shape = layer.weight_shape();
  return !name.ends_with("conv_in") && !name.ends_with("conv_out") && shape[0] % 16 == 0 && shape[0] >= 32 &&
         shape[1] >= 32 && shape[2] == 3 && shape[3] == 3 && layer.stride == 1 &&
         (layer.padding == 0 || layer.padding == 1);
}

/// Replaces the values by NaN of the same shape, without using memory, so that code that ignores `int8` is noticed.
inline void give_up_values(const at::Tensor& weight) {
  weight.set_data(at::full({1}, std::numeric_limits<double>::quiet_NaN(), weight.options().requires_grad(false))
                      .expand(weight.sizes()));
}

}  // namespace detail

/// Holds the weights of a UNet in 8 bits from now on, for inference on a CPU: linear layers of its transformers and
/// 3x3 convolutions of stride 1, with one scale for each output channel. The linear layers round each row of their
/// input to 8 bits too and sum exactly; the convolutions compute in fp32, by Winograd's filtering, which saves as many
/// products as 8 bits would. Embeddings of the time, first and last convolution, norms and biases stay in full.
///
/// An approximation: a product of random factors has an error of about 1 % of its deviation. A result does not depend
/// on the processor's instructions but for the rounding of fp32, nor on the rest of its batch. The full weights are
/// given up: the model is frozen, and to train, save, move or convert it, it must be loaded again. LoRAs are added in
/// full precision, before or after. Must not run concurrently with calls.
///
/// \param model a `UNet` or another model with transformers  \return the number of layers changed
/// \throws Error for a model that is not on the CPU, does not compute in fp32, or is in 8 bits already; then nothing is
///   changed
template <class Model>
std::int64_t use_int8(const Model& model) {
  const at::NoGradGuard no_grad;
  require(model.device().is_cpu(), "int8: expected a model on the CPU, found one on {}", model.device().str());
  require(model.dtype() == at::kFloat, "int8: expected a model that computes in fp32, found {}",
          at::toString(model.dtype()));
  for (const auto* part : model.module().modules()) {
    const auto* host = dynamic_cast<const Int8Host*>(part);
    require(host == nullptr || !host->int8, "int8: expected a model with weights in full, found one in 8 bits already");
  }
  Model handle = model;  // of the same weights
  handle.thaw();
  std::int64_t count = 0;
  for (const auto& [name, part] : model.module().named_modules()) {
    if (auto* linear = dynamic_cast<Linear*>(part); linear != nullptr && detail::suits_int8(name, *linear)) {
      linear->int8 = std::make_shared<const detail::Int8Weight>(detail::int8_linear_weight(linear->weight));
      linear->fp8.reset();
      detail::give_up_values(linear->weight);
      ++count;
    }
    if (auto* conv = dynamic_cast<Conv2d*>(part); conv != nullptr && detail::suits_int8(name, *conv)) {
      conv->int8 = std::make_shared<const detail::Int8Weight>(detail::int8_conv_weight(conv->weight));
      detail::give_up_values(conv->weight);
      ++count;
    }
  }
  // What stays is copied out of a mapped file, which would otherwise stay in memory as a whole.
  for (const auto& parameter : model.module().parameters()) {
    if (parameter.storage().nbytes() > parameter.nbytes()) parameter.set_data(parameter.detach().clone());
  }
  handle.freeze();
  note_model_change();
  return count;
}

}  // namespace ip2p
