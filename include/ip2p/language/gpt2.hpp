#pragma once

/// \file
/// GPT-2 (Radford et al. 2019; transformers `GPT2LMHeadModel`): token ids to the logits of the next one.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/language/gpt2_config.hpp"
#include "ip2p/language/key_value_cache.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/token_ids.hpp"

namespace ip2p {

namespace detail {

/// Context of the tokens passed to a layer.
struct Gpt2Pass {
  KeyValueCache* cache = nullptr;  ///< Null: whole texts, causal attention.
  at::Tensor mask;                 ///< From the cache; undefined if none is needed.
};

struct Gpt2Layer : Module {
  explicit Gpt2Layer(const Gpt2Config& config)
      : heads(config.n_head),
        activation(config.activation_function == "gelu" ? Activation::gelu : Activation::gelu_tanh) {
    const auto width = config.n_embd;
    ln_1 = register_module("ln_1", std::make_shared<LayerNorm>(width));
    auto attention = register_group("attn");
    c_attn = attention->register_module("c_attn", std::make_shared<Linear>(width, 3 * width));
    attn_c_proj = attention->register_module("c_proj", std::make_shared<Linear>(width, width));
    ln_2 = register_module("ln_2", std::make_shared<LayerNorm>(width));
    auto mlp = register_group("mlp");
    c_fc = mlp->register_module("c_fc", std::make_shared<Linear>(width, config.inner()));
    mlp_c_proj = mlp->register_module("c_proj", std::make_shared<Linear>(config.inner(), width));
  }

  /// \param x [B,T,C]  \return [B,T,C]
  at::Tensor operator()(const at::Tensor& x, std::int64_t layer, const Gpt2Pass& pass) const {
    // [B,T,3C] -> three views [B,heads,T,d]
    const auto qkv = (*c_attn)((*ln_1)(x)).unflatten(-1, {3, heads, x.size(2) / heads}).permute({2, 0, 3, 1, 4});
    at::Tensor mixed;
    if (pass.cache != nullptr) {
      const auto [keys, values] = pass.cache->write(layer, qkv[1], qkv[2]);
      const auto mask = pass.mask.defined() ? std::optional<at::Tensor>(pass.mask) : std::nullopt;
      mixed = at::scaled_dot_product_attention(qkv[0], keys, values, mask, 0.0, !mask && x.size(1) > 1);
    } else {
      mixed = kernels_for(x).attention(qkv[0], qkv[1], qkv[2], true);
    }
    const auto y = attn_c_proj->plus(mixed.transpose(1, 2).flatten(2), x);
    return mlp_c_proj->plus(c_fc->activated((*ln_2)(y), activation), y);
  }

  std::shared_ptr<Linear> c_attn, attn_c_proj, c_fc, mlp_c_proj;
  std::shared_ptr<LayerNorm> ln_1, ln_2;
  std::int64_t heads;
  Activation activation;
};

struct Gpt2Module : Module {
  explicit Gpt2Module(Gpt2Config config_) : config(std::move(config_)) {
    config.validate("Gpt2Config");
    wte = register_module("wte", std::make_shared<Embedding>(config.vocab_size, config.n_embd));
    wpe = register_module("wpe", std::make_shared<Embedding>(config.n_positions, config.n_embd));
    auto list = register_group("h");
    for (std::int64_t i = 0; i < config.n_layer; ++i) {
      layers.push_back(list->register_module(std::to_string(i), std::make_shared<Gpt2Layer>(config)));
    }
    ln_f = register_module("ln_f", std::make_shared<LayerNorm>(config.n_embd));
  }

  Gpt2Config config;
  std::shared_ptr<Embedding> wte, wpe;
  std::vector<std::shared_ptr<Gpt2Layer>> layers;
  std::shared_ptr<LayerNorm> ln_f;
};

}  // namespace detail

/// A transformer that predicts the next token. The output layer shares its weights with the token embedding.
class Gpt2 : public ModelHandle<detail::Gpt2Module> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = Gpt2Config;
  static constexpr const char* component = "language_model";  ///< Prefix in names of LoRA tensors.

  /// Weights are uninitialised: load them (language/gpt2_files.hpp) or call `initialise()`.
  explicit Gpt2(Gpt2Config config) : ModelHandle(std::make_shared<detail::Gpt2Module>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const Gpt2Config& config() const { return module_->config; }

  /// Last hidden states of whole texts. \param ids [B,T] int64 on the CPU, T <= n_positions, each in [0, vocab_size)
  /// \return [B,T,n_embd]  \throws Error for another shape, dtype or device, and for ids out of range
  [[nodiscard]] at::Tensor hidden(const at::Tensor& ids) const {
    require_ids(ids, config().n_positions);
    return run(ids, at::arange(ids.size(1), at::TensorOptions(at::kLong).device(device())).unsqueeze(0), {});
  }

  /// Logits of the next token after each hidden state [..., n_embd]. \return [..., vocab_size]
  /// \throws Error for another width
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden) const {
    require(hidden.defined() && hidden.dim() >= 1 && hidden.size(-1) == config().n_embd,
            "Gpt2: hidden: expected [..., {}], found {}", config().n_embd, tensor_text(hidden));
    return at::linear(hidden, detail::weight_for(hidden, module_->wte->weight));
  }

  /// \param ids as for `hidden`  \return logits [B,T,vocab_size]  \throws Error as `hidden`
  at::Tensor operator()(const at::Tensor& ids) const { return logits(hidden(ids)); }

  /// A cache for texts of at most `capacity` tokens, padding included. \throws Error as `KeyValueCache`
  [[nodiscard]] KeyValueCache start(std::int64_t capacity, std::vector<std::int64_t> padding) const {
    const auto& c = config();
    return {c.n_layer, c.n_head,           c.n_embd / c.n_head,
            capacity,  std::move(padding), at::TensorOptions().dtype(dtype()).device(device())};
  }

  /// Feeds the next tokens of each text. \param ids [B,T] int64 on the CPU, T >= 1  \param cache from `start`
  /// \return logits [B,vocab_size] of the token after the last  \throws Error as `hidden`, when the cache has no room
  ///   for them or belongs to another model, and for a text that becomes longer than n_positions
  at::Tensor next(const at::Tensor& ids, KeyValueCache& cache) const {
    const at::NoGradGuard no_grad;
    require_ids(ids, cache.capacity() - cache.length());
    require(ids.size(0) == cache.batch(), "Gpt2: ids: expected {} texts, as the cache has, found {}", cache.batch(),
            ids.size(0));
    require(cache.longest() + ids.size(1) <= config().n_positions,
            "Gpt2: ids: expected texts of at most {} tokens, found {} more after {}", config().n_positions, ids.size(1),
            cache.longest());
    cache.require_fits(config().n_layer, config().n_head, config().n_embd / config().n_head);
    const auto x = run(ids, cache.positions(ids.size(1)), {.cache = &cache, .mask = cache.mask(ids.size(1))});
    cache.advance(ids.size(1));
    return logits(x.select(1, x.size(1) - 1));
  }

 private:
  void require_ids(const at::Tensor& ids, std::int64_t room) const {
    detail::require_token_ids(ids, room, config().vocab_size, "Gpt2");
  }

  [[nodiscard]] at::Tensor run(const at::Tensor& ids, const at::Tensor& positions, const detail::Gpt2Pass& pass) const {
    auto x = ((*module_->wte)(detail::to_device(ids, device())) + (*module_->wpe)(positions)).to(dtype());
    std::int64_t i = 0;
    for (const auto& layer : module_->layers) x = (*layer)(x, i++, pass);
    return (*module_->ln_f)(x);
  }
};

}  // namespace ip2p
