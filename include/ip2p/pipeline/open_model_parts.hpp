#pragma once

/// \file
/// Definitions of `OpenedModel` that load a network or a text encoder. Included by open_model.hpp, or compiled once
/// into `ip2p::compiled`.

#include <utility>

#include "ip2p/core/definitions.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/nn/fp8.hpp"
#include "ip2p/nn/int8.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_files.inc"
#include "ip2p/text/any_text_encoder.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/unet/any_network.hpp"
#include "ip2p/unet/deep_cache.hpp"
#include "ip2p/unet/unet.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

IP2P_INLINE AnyTextEncoder OpenedModel::text_encoder() const {
  if (!files_->options.low_memory) return files_->loaded_text_encoder(files_->load);
  return OnDemand<ClipTextEncoder>(
      files_->files, files_->load,
      [files = files_](const ModelFiles&, const LoadOptions& how) { return files->loaded_text_encoder(how); });
}

IP2P_INLINE AnyNetwork OpenedModel::network() const {
  const auto& options = files_->options;
  auto how = files_->load;
  how.prepare = how.prepare && !options.int8;  // which gives weights a form of its own
  auto network = load<UNet>(files_->files, how);
  if (!files_->loras.empty()) files_->apply_loras(detail::lora_model(network));
  if (options.direct_convolutions) set_convolution_form(network.module(), ConvolutionForm::direct);
  if (options.fp8) use_fp8(network);
  if (options.int8) use_int8(network);
  if (options.deep_cache != 1) return DeepCache(std::move(network), {.interval = options.deep_cache});
  return network;
}

}  // namespace ip2p
#endif
