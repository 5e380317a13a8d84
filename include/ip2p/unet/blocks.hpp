#pragma once

/// \file
/// One stage of the UNet: residual blocks with transformers between them.

#include <ATen/ops/cat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/attention/keys_values.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/module.hpp"
#include "ip2p/nn/segment.hpp"
#include "ip2p/nn/transformer.hpp"
#include "ip2p/unet/config.hpp"

namespace ip2p::detail {

/// State that one evaluation carries through the stages: cursors into the precomputed per-layer inputs.
struct UNetPass {
  const at::Tensor* time;  ///< Next residual block's projection of the time embedding, [B or 1, C, 1, 1].
  const KeysValues* text;  ///< Next transformer layer's keys and values.
  const AttentionReference& attend;
  AttentionSite site;
  at::Tensor rows;  ///< See `UNet`; undefined once x has one row per text row.
};

/// `x` concatenated with the skip connection's channels, if there is one.
inline at::Tensor with_skip(const at::Tensor& x, const at::Tensor& skip) {
  return skip.defined() ? at::cat({x, skip}, 1) : x;
}

/// A stage of the down path, the up path or the middle. Residual block i takes `inputs[i]` channels; the first
/// `transformers` blocks are each followed by a transformer.
struct UNetStage : Module {
  UNetStage(const UNetConfig& config, std::size_t level, const std::vector<std::int64_t>& inputs,
            std::size_t transformers) {
    const auto channels = config.block_out_channels[level];
    auto resnet_list = register_group("resnets");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      resnets.push_back(resnet_list->register_module(
          std::to_string(i), std::make_shared<ResnetBlock>(inputs[i], channels, 4 * config.block_out_channels[0],
                                                           config.norm_num_groups, config.norm_eps)));
    }
    if (transformers == 0) return;
    auto attention_list = register_group("attentions");
    for (std::size_t i = 0; i < transformers; ++i) {
      attentions.push_back(attention_list->register_module(
          std::to_string(i), std::make_shared<SpatialTransformer>(
                                 channels, config.cross_attention_dim, config.heads[level], config.norm_num_groups,
                                 config.transformer_layers[level], config.use_linear_projection)));
    }
  }

  /// Residual block i and the transformer after it, if there is one.
  at::Tensor layer(std::size_t i, const at::Tensor& x, UNetPass& pass) const {
    auto h = (*resnets[i])(x, *pass.time++);
    if (i < attentions.size()) h = (*attentions[i])(h, pass.text, pass.attend, pass.site, pass.rows);
    return h;
  }

  /// Leaves out `layer(i, ...)`: moves the pass behind it.
  void pass_over(std::size_t i, UNetPass& pass) const {
    ++pass.time;
    if (i >= attentions.size()) return;
    const auto blocks = attentions[i]->blocks.size();
    pass.text += blocks;
    pass.site.layer += static_cast<std::int64_t>(blocks);
  }

  /// Layer i for [x, skip] as a segment, which `evaluate` may evaluate again in the backward pass.
  /// \param stage kept until then
  static at::Tensor layer_as_segment(SegmentEvaluation evaluate, const std::shared_ptr<UNetStage>& stage, std::size_t i,
                                     const at::Tensor& x, const at::Tensor& skip, UNetPass& pass) {
    const auto* transformer = i < stage->attentions.size() ? stage->attentions[i].get() : nullptr;
    const auto blocks = transformer == nullptr ? 0 : transformer->blocks.size();
    std::vector<at::Tensor> inputs{x, *pass.time++};
    for (std::size_t b = 0; b < blocks; ++b, ++pass.text) {
      inputs.insert(inputs.end(), {pass.text->keys, pass.text->values});
    }
    if (skip.defined()) inputs.push_back(skip);
    const auto segment = [stage, i, blocks, has_skip = skip.defined(), attend = pass.attend, site = pass.site,
                          branches =
                              std::vector(pass.site.branches.begin(), pass.site.branches.end())](at::TensorList in) {
      auto again_at = site;
      again_at.branches = branches;
      std::vector<KeysValues> texts;
      for (std::size_t b = 0; b < blocks; ++b) texts.push_back({in[2 + 2 * b], in[3 + 2 * b]});
      UNetPass again{&in[1], texts.data(), attend, again_at, {}};
      return stage->layer(i, with_skip(in[0], has_skip ? in.back() : at::Tensor()), again);
    };
    pass.site.layer += static_cast<std::int64_t>(blocks);
    return evaluate(segment, inputs, segment_weights({stage->resnets[i].get(), transformer}));
  }

  void add_downsampler(std::int64_t channels) {
    downsampler = register_group("downsamplers")->register_module("0", std::make_shared<Downsample>(channels, false));
  }

  void add_upsampler(std::int64_t channels) {
    upsampler = register_group("upsamplers")->register_module("0", std::make_shared<Upsample>(channels));
  }

  std::vector<std::shared_ptr<ResnetBlock>> resnets;
  std::vector<std::shared_ptr<SpatialTransformer>> attentions;
  std::shared_ptr<Downsample> downsampler;
  std::shared_ptr<Upsample> upsampler;
};

}  // namespace ip2p::detail
