#pragma once

/// \file
/// Loads models from files, and provides codecs and text encoders that stay in memory only while in use.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/prepare.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/clip_text_encoder.hpp"

namespace ip2p {

/// How a model is loaded.
struct LoadOptions {
  at::Device device = at::kCPU;       ///< Where the weights lie and the model computes.
  at::ScalarType dtype = at::kFloat;  ///< Of the arithmetic: fp32, bf16 or fp16.
  /// Of the weights in memory, if narrower than the arithmetic (see `ModelHandle::compute_in`).
  std::optional<at::ScalarType> storage = {};
  bool inference = true;  ///< False keeps weights trainable.
  /// For inference on a CPU: brings weights into their form now, in all threads and while the file is read (`prepare`),
  /// rather than at the first call.
  bool prepare = true;
  /// How texts are tokenised; by default as in the released program, the rule of `Numerics::released`.
  TokenizerText text = TokenizerText::released;
};

namespace detail {

template <class Model>
Model load_module(const ModelFiles& files, const LoadOptions& options) {
  const std::string component = Model::component;
  const auto where = files.where(component);
  Model model(Model::Config::from_json(files.config(component), where));
  const auto stored = options.storage.value_or(options.dtype);
  load_weights(model.module(), files.weights(component), where, stored);
  if (options.inference) model.freeze();
  if (options.device != at::kCPU) model.to(options.device, stored);
  if (stored != options.dtype) model.compute_in(options.dtype);
  if (options.inference && options.prepare && options.device == at::kCPU && stored == options.dtype) {
    ip2p::prepare(model.module());
  }
  return model;
}

}  // namespace detail

/// Loads one component: `UNet`, `KlAutoencoder`, `TinyAutoencoder`, `DcAutoencoder`, `ClipTextModel`, `ClipModel`, or,
/// with the model's tokenizer, `ClipTextEncoder` and `Clip`. \throws Error naming file, component and the tensors that
/// do not fit; nothing is left half-loaded.
template <class Model>
Model load(const ModelFiles& files, const LoadOptions& options = {}) {
  if constexpr (requires { typename Model::Network; }) {
    return Model(BpeTokenizer::open(files.tokenizer(), {.text = options.text}),
                 detail::load_module<typename Model::Network>(files, options));
  } else {
    return detail::load_module<Model>(files, options);
  }
}

/// Schedule and prediction according to a model's files; see `diffusion_of(SchedulerConfig, Numerics)`.
inline ModelDiffusion diffusion_of(const ModelFiles& files, Numerics numerics = Numerics::released) {
  const auto config = files.has("scheduler") ? scheduler_config_from_json(files.config("scheduler"),
                                                                          files.path().string() + " (scheduler)")
                                             : SchedulerConfig{};
  return diffusion_of(config, numerics);
}

/// A text encoder or codec that is loaded for each call and freed afterwards, so that its weights and the UNet's are
/// never in memory together. Satisfies the same concept as `Model`.
template <class Model>
class OnDemand {
 private:
  [[nodiscard]] auto config() const {
    return Model::Config::from_json(files_.config(Model::component), files_.path().string());
  }

 public:
  /// How the model is loaded from its files.
  using Load = std::function<Model(const ModelFiles&, const LoadOptions&)>;

  /// \param load_model loads it, and may apply LoRAs and textual inversions; `load<Model>` by default
  explicit OnDemand(ModelFiles files, LoadOptions options = {}, Load load_model = load<Model>)
      : files_(std::move(files)), options_(options), load_(std::move(load_model)) {}

  /// [B, tokens, width]: loads the text encoder, encodes, and drops it. \throws Error as `load`
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const requires TextEncoder<Model> {
    return loaded().encode(prompts);
  }

  /// Images [B,3,H,W] in [-1,1] to latents: loads the codec, encodes, and drops it. \throws Error as `load`
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const requires ImageCodec<Model> {
    return loaded().encode(images);
  }

  /// Latents [B,C,h,w] to images: loads the codec, decodes, and drops it. \throws Error as `load`
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const requires ImageCodec<Model> {
    return loaded().decode(latents);
  }

  /// Factor of the latents that the network sees, from the codec's configuration.
  [[nodiscard]] double scaling_factor() const { return config().scaling_factor; }
  /// Channels of the latents, from the codec's configuration.
  [[nodiscard]] std::int64_t latent_channels() const { return config().latent_channels; }
  /// Pixels per latent pixel along each side, from the codec's configuration.
  [[nodiscard]] std::int64_t downscale() const {
    const auto chosen = config();
    if constexpr (requires { chosen.block_out_channels; }) {
      return std::int64_t{1} << (chosen.block_out_channels.size() - 1);
    } else if constexpr (requires { chosen.encoder_block_out_channels; }) {
      return std::int64_t{1} << (chosen.encoder_block_out_channels.size() - 1);
    } else {
      return std::int64_t{1} << (chosen.encoder_blocks.size() - 1);
    }
  }

  /// Device and dtype of the calls from now on.
  void to(at::Device device, at::ScalarType dtype) {
    options_.device = device;
    options_.dtype = dtype;
    options_.storage.reset();
  }

  /// From the next call the model computes in `dtype`, with weights in their current dtype; see
  /// `ModelHandle::compute_in`.
  void compute_in(at::ScalarType dtype) {
    options_.storage = options_.storage.value_or(options_.dtype);
    options_.dtype = dtype;
  }

 private:
  [[nodiscard]] Model loaded() const { return load_(files_, options_); }

  ModelFiles files_;
  LoadOptions options_;
  Load load_;
};

}  // namespace ip2p
