#pragma once

/// \file
/// CLIP (Radford et al. 2021): two towers whose projections put pictures and texts into one space. Modules and names as
/// in transformers' `CLIPModel`.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/upsample_bicubic2d.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/nn/clip_layer.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/vision/clip_config.hpp"

namespace ip2p {

namespace detail {

/// Runs patches and a class token through a transformer; the class token's last state describes the picture.
struct ClipVisionTower : Module {
  explicit ClipVisionTower(const ClipVisionConfig& config) {
    const auto width = config.hidden_size;
    embeddings = register_group("embeddings");
    class_embedding = embeddings->register_parameter("class_embedding", at::empty({width}));
    patch_embedding = embeddings->register_module(
        "patch_embedding", std::make_shared<Conv2d>(3, width, config.patch_size, config.patch_size, 0, false));
    position_embedding =
        embeddings->register_module("position_embedding", std::make_shared<Embedding>(config.tokens(), width));
    pre_layrnorm = register_module("pre_layrnorm", std::make_shared<LayerNorm>(width));  // the files' spelling
    auto list = register_group("encoder")->register_group("layers");
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers.push_back(list->register_module(
          std::to_string(i), std::make_shared<ClipLayer>(width, config.intermediate_size, config.num_attention_heads,
                                                         config.hidden_act == "quick_gelu", /*causal=*/false)));
    }
    post_layernorm = register_module("post_layernorm", std::make_shared<LayerNorm>(width));
  }

  /// Tokens as they enter the last layer, the class token first.
  /// \param pixels [B, 3, H, W], H and W at least one patch; a remainder smaller than a patch is ignored
  /// \return [B, 1 + patches, hidden_size]
  [[nodiscard]] at::Tensor before_last(const at::Tensor& pixels) const {
    const auto patches = (*patch_embedding)(pixels);
    const auto dtype = patches.scalar_type();
    const auto token = class_embedding.to(dtype).expand({patches.size(0), 1, -1});
    auto x =
        at::cat({token, patches.flatten(2).transpose(1, 2)}, 1) + positions(patches.size(2), patches.size(3)).to(dtype);
    x = (*pre_layrnorm)(x);
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) x = (*layers[i])(x);
    return x;
  }

  /// Position embeddings of h rows of w patches: those of the square that the model was trained on, bicubically
  /// interpolated for other shapes, with the scales of DINO (Caron et al. 2021). \return [1 + h w, hidden_size]
  [[nodiscard]] at::Tensor positions(std::int64_t h, std::int64_t w) const {
    const auto& weight = position_embedding->weight;
    const auto side = std::llround(std::sqrt(static_cast<double>(weight.size(0) - 1)));
    if (h == side && w == side) return weight;
    const auto scale = [&](std::int64_t n) { return (static_cast<double>(n) + 0.1) / static_cast<double>(side); };
    const auto square = weight.narrow(0, 1, side * side).t().reshape({1, weight.size(1), side, side});
    const auto map = at::upsample_bicubic2d(square.to(at::kFloat), {h, w}, false, scale(h), scale(w));
    return at::cat({weight.narrow(0, 0, 1), map[0].flatten(1).t().to(weight.scalar_type())});
  }

  /// \param last tokens after the last layer  \return [B, hidden_size]
  [[nodiscard]] at::Tensor class_state(const at::Tensor& last) const { return (*post_layernorm)(last.select(1, 0)); }

  std::shared_ptr<Module> embeddings;
  at::Tensor class_embedding;
  std::shared_ptr<Conv2d> patch_embedding;
  std::shared_ptr<Embedding> position_embedding;
  std::shared_ptr<LayerNorm> pre_layrnorm, post_layernorm;
  std::vector<std::shared_ptr<ClipLayer>> layers;
};

struct ClipModule : Module {
  explicit ClipModule(ClipConfig config_) : config(std::move(config_)), text(config.text) {
    config.validate("ClipConfig");
    logit_scale = register_parameter("logit_scale", at::full({}, std::log(1.0 / 0.07)));
    register_module("text_model", text.module().part("text_model"));
    vision = register_module("vision_model", std::make_shared<ClipVisionTower>(config.vision));
    visual_projection = register_module(
        "visual_projection", std::make_shared<Linear>(config.vision.hidden_size, config.projection_dim, false));
    text_projection = register_module("text_projection",
                                      std::make_shared<Linear>(config.text.hidden_size, config.projection_dim, false));
  }

  ClipConfig config;
  ClipTextModel text;
  at::Tensor logit_scale;  ///< Logarithm of the factor that turns cosines into logits.
  std::shared_ptr<ClipVisionTower> vision;
  std::shared_ptr<Linear> visual_projection, text_projection;
};

}  // namespace detail

/// Both towers with their projections. Results are the raw projections; see `Clip` for unit features of pictures and
/// texts.
class ClipModel : public ModelHandle<detail::ClipModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = ClipConfig;
  static constexpr const char* component = "clip";  ///< Name among the model's components.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit ClipModel(ClipConfig config) : ModelHandle(std::make_shared<detail::ClipModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const ClipConfig& config() const { return module_->config; }

  /// Fresh weights for training from scratch, determined by the seed: `ip2p::initialise`, the class token N(0, 1/width)
  /// and a logit scale of ln(1/0.07).
  void initialise(std::uint64_t seed) {
    ip2p::initialise(*module_, seed);
    const at::NoGradGuard no_grad;
    auto generator = at::make_generator<at::CPUGeneratorImpl>(seed + 1);
    auto token = module_->vision->class_embedding;
    // Drawn on the CPU, as in `ip2p::initialise`, so that the result does not depend on the device.
    const double deviation = 1.0 / std::sqrt(static_cast<double>(config().vision.hidden_size));
    token.copy_(at::empty(token.sizes(), at::kFloat).normal_(0, deviation, generator));
    auto scale = module_->logit_scale;
    scale.fill_(std::log(1.0 / 0.07));
  }

  /// \param pixels [B, 3, S, S], normalised (clip_pixels.hpp), S = config().vision.image_size
  /// \return [B, projection_dim]  \throws Error for another shape
  [[nodiscard]] at::Tensor project_images(const at::Tensor& pixels) const {
    const auto side = config().vision.image_size;
    require(pixels.dim() == 4 && pixels.size(1) == 3 && pixels.size(2) == side && pixels.size(3) == side,
            "ClipModel: pixels: expected [B, 3, {0}, {0}], found {1}", side, shape_text(pixels.sizes()));
    return project_tokens(image_tokens(pixels));
  }

  /// The tokens that enter the last layer, for pictures of any size from one patch up.
  /// \param pixels [B, 3, H, W], normalised  \return [B, 1 + patches, hidden_size]  \throws Error for another shape
  [[nodiscard]] at::Tensor image_tokens(const at::Tensor& pixels) const {
    const auto patch = config().vision.patch_size;
    require(pixels.dim() == 4 && pixels.size(1) == 3 && pixels.size(2) >= patch && pixels.size(3) >= patch,
            "ClipModel: pixels: expected [B, 3, H, W] of at least {0}x{0}, found {1}", patch,
            shape_text(pixels.sizes()));
    return module_->vision->before_last(pixels.to(device(), dtype()));
  }

  /// The last layer and the projection. \param tokens of `image_tokens`  \return [B, projection_dim]
  [[nodiscard]] at::Tensor project_tokens(const at::Tensor& tokens) const {
    return project_last((*module_->vision->layers.back())(tokens));
  }

  /// The projection alone. \param last tokens after the last layer  \return [B, projection_dim]
  [[nodiscard]] at::Tensor project_last(const at::Tensor& last) const {
    return (*module_->visual_projection)(module_->vision->class_state(last));
  }

  /// \param ids [B, T] int64 on the CPU, each row with its end token
  /// \return [B, projection_dim]  \throws Error as `ClipTextModel`, and for a row without an end token
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
    const auto places = detail::to_device(wanted.argmax(1), hidden.device());
    const auto ends = hidden.gather(1, places.view({-1, 1, 1}).expand({-1, 1, hidden.size(2)})).squeeze(1);
    return (*module_->text_projection)(ends);
  }

  /// Factor from cosines to logits, an fp32 scalar that keeps its graph.
  [[nodiscard]] at::Tensor scale() const { return module_->logit_scale.to(at::kFloat).exp(); }
};

}  // namespace ip2p
