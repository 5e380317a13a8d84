#pragma once

/// \file
/// CLIP (Radford et al. 2021): two towers whose projections put pictures and texts into one space. Modules and names as
/// in transformers' `CLIPModel`.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/nn/clip_layer.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/vision/clip_config.hpp"

namespace ip2p {

namespace detail {

/// Patches and a class token through a transformer; the class token's last state.
struct ClipVisionTower : torch::nn::Module {
  explicit ClipVisionTower(const ClipVisionConfig& config) {
    const auto width = config.hidden_size;
    embeddings = register_module("embeddings", std::make_shared<torch::nn::Module>());
    class_embedding = embeddings->register_parameter("class_embedding", at::empty({width}));
    patch_embedding = embeddings->register_module(
        "patch_embedding", std::make_shared<Conv2d>(3, width, config.patch_size, config.patch_size, 0, false));
    position_embedding =
        embeddings->register_module("position_embedding", std::make_shared<Embedding>(config.tokens(), width));
    pre_layrnorm = register_module("pre_layrnorm", std::make_shared<LayerNorm>(width));  // the files' spelling
    auto list = register_module("encoder", std::make_shared<torch::nn::Module>())
                    ->register_module("layers", std::make_shared<torch::nn::Module>());
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers.push_back(list->register_module(
          std::to_string(i), std::make_shared<ClipLayer>(width, config.intermediate_size, config.num_attention_heads,
                                                         config.hidden_act == "quick_gelu", /*causal=*/false)));
    }
    post_layernorm = register_module("post_layernorm", std::make_shared<LayerNorm>(width));
  }

  /// \param pixels [B, 3, S, S]  \return [B, hidden_size]
  at::Tensor operator()(const at::Tensor& pixels) const {
    const auto patches = (*patch_embedding)(pixels).flatten(2).transpose(1, 2);
    const auto token = class_embedding.to(patches.scalar_type()).expand({patches.size(0), 1, -1});
    auto x = at::cat({token, patches}, 1) + position_embedding->weight.to(patches.scalar_type());
    x = (*pre_layrnorm)(x);
    for (const auto& layer : layers) x = (*layer)(x);
    return (*post_layernorm)(x.select(1, 0));
  }

  std::shared_ptr<torch::nn::Module> embeddings;
  at::Tensor class_embedding;
  std::shared_ptr<Conv2d> patch_embedding;
  std::shared_ptr<Embedding> position_embedding;
  std::shared_ptr<LayerNorm> pre_layrnorm, post_layernorm;
  std::vector<std::shared_ptr<ClipLayer>> layers;
};

struct ClipModule : torch::nn::Module {
  explicit ClipModule(ClipConfig config_) : config(std::move(config_)), text(config.text) {
    config.validate("ClipConfig");
    logit_scale = register_parameter("logit_scale", at::full({}, std::log(1.0 / 0.07)));
    register_module("text_model", text.module().named_children()["text_model"]);
    vision = register_module("vision_model", std::make_shared<ClipVisionTower>(config.vision));
    visual_projection = register_module(
        "visual_projection", std::make_shared<Linear>(config.vision.hidden_size, config.projection_dim, false));
    text_projection = register_module("text_projection",
                                      std::make_shared<Linear>(config.text.hidden_size, config.projection_dim, false));
  }

  ClipConfig config;
  ClipTextModel text;
  at::Tensor logit_scale;  ///< Logarithm of the factor from cosines to logits.
  std::shared_ptr<ClipVisionTower> vision;
  std::shared_ptr<Linear> visual_projection, text_projection;
};

}  // namespace detail

/// Both towers with their projections. Results are the projections as they are; see `Clip` for unit features of
/// pictures and texts.
class ClipModel : public ModelHandle<detail::ClipModule> {
 public:
  using Config = ClipConfig;
  static constexpr const char* component = "clip";  ///< Name among the model's components.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit ClipModel(ClipConfig config) : ModelHandle(std::make_shared<detail::ClipModule>(std::move(config))) {}

  [[nodiscard]] const ClipConfig& config() const { return module_->config; }

  /// Fresh weights for training from nothing, a function of the seed: `ip2p::initialise`, the class token N(0, 1/width)
  /// and a logit scale of ln(1/0.07).
  void initialise(std::uint64_t seed) {
    ip2p::initialise(*module_, seed);
    const at::NoGradGuard no_grad;
    auto generator = at::make_generator<at::CPUGeneratorImpl>(seed + 1);
    auto token = module_->vision->class_embedding;
    token.normal_(0, 1.0 / std::sqrt(static_cast<double>(config().vision.hidden_size)), generator);
    auto scale = module_->logit_scale;
    scale.fill_(std::log(1.0 / 0.07));
  }

  /// \param pixels [B, 3, S, S], normalised (clip_pixels.hpp), S = config().vision.image_size
  /// \return [B, projection_dim]  \throws Error for another shape
  [[nodiscard]] at::Tensor project_images(const at::Tensor& pixels) const {
    const auto side = config().vision.image_size;
    require(pixels.dim() == 4 && pixels.size(1) == 3 && pixels.size(2) == side && pixels.size(3) == side,
            "ClipModel: pixels: expected [B, 3, {0}, {0}], found {1}", side, shape_text(pixels.sizes()));
    return (*module_->visual_projection)((*module_->vision)(pixels.to(device(), dtype())));
  }

  /// \param ids [B, T] int64, each row with its end token
  /// \return [B, projection_dim]  \throws Error for another shape, and for a row without an end token
  [[nodiscard]] at::Tensor project_texts(const at::Tensor& ids) const {
    auto text = module_->text;
    if (dtype() != text.dtype()) text.compute_in(dtype());
    const auto hidden = text(ids);
    const auto eos = config().eos_token_id;
    const auto wanted = eos == 2 ? ids : ids.eq(eos).to(at::kInt);
    if (eos != 2) {
      require(wanted.sum(1).gt(0).all().item<bool>(),
              "ClipModel: ids: expected the end token {} in every text, found one without", eos);
    }
    const auto places = wanted.argmax(1).to(hidden.device());
    const auto ends = hidden.gather(1, places.view({-1, 1, 1}).expand({-1, 1, hidden.size(2)})).squeeze(1);
    return (*module_->text_projection)(ends);
  }

  /// Factor from cosines to logits, an fp32 scalar that keeps its graph.
  [[nodiscard]] at::Tensor scale() const { return module_->logit_scale.to(at::kFloat).exp(); }
};

}  // namespace ip2p
