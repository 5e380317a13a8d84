#pragma once

/// \file
/// The denoising UNet of Stable Diffusion, conditioned on text by cross-attention and on an image by its input
/// channels.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/attention/keys_values.hpp"
#include "ip2p/attention/plain.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/fingerprint.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/unet/blocks.hpp"
#include "ip2p/unet/concepts.hpp"
#include "ip2p/unet/config.hpp"

namespace ip2p {

/// Sinusoidal embedding [cos, sin] of timesteps with frequencies exp(-ln(10000) i / (channels/2 - shift)). Timesteps
/// are not quantised. \param timesteps [B], fp32, 0..999 and fractions between \param cosine_first false: [sin, cos]
/// (reference: `flip_sin_to_cos`)  \param shift reference: `freq_shift` \return [B, channels], fp32
inline at::Tensor timestep_embedding(const at::Tensor& timesteps, std::int64_t channels, bool cosine_first = true,
                                     double shift = 0) {
  const auto half = channels / 2;
  const auto frequencies = at::exp(at::arange(half, timesteps.options().dtype(at::kFloat)) *
                                   (-std::log(1e4) / (static_cast<double>(half) - shift)));
  const auto angles = timesteps.to(at::kFloat).unsqueeze(1) * frequencies;
  if (!cosine_first) return at::cat({at::sin(angles), at::cos(angles)}, 1);
  return at::cat({at::cos(angles), at::sin(angles)}, 1);
}

namespace detail {

struct UNetModule : Module {
  explicit UNetModule(UNetConfig config_) : config(std::move(config_)) {
    config.validate("UNetConfig");
    const auto& width = config.block_out_channels;
    const auto levels = width.size();
    conv_in = register_module("conv_in", std::make_shared<Conv2d>(config.in_channels, width[0], 3, 1, 1));
    auto embedding = register_group("time_embedding");
    time_1 = embedding->register_module("linear_1", std::make_shared<Linear>(width[0], 4 * width[0]));
    time_2 = embedding->register_module("linear_2", std::make_shared<Linear>(4 * width[0], 4 * width[0]));

    // Channels of each skip connection from the down path to the up path.
    std::vector<std::int64_t> skips{width[0]};
    auto down_list = register_group("down_blocks");
    for (std::size_t level = 0; level < levels; ++level) {
      std::vector<std::int64_t> inputs(static_cast<std::size_t>(config.layers_per_block), width[level]);
      inputs[0] = skips.back();
      const auto transformers = config.cross_attention[level] ? inputs.size() : 0;
      auto stage = std::make_shared<UNetStage>(config, level, inputs, transformers);
      skips.insert(skips.end(), inputs.size(), width[level]);
      if (level + 1 < levels) {
        stage->add_downsampler(width[level]);
        skips.push_back(width[level]);
      }
      down.push_back(down_list->register_module(std::to_string(level), stage));
    }

    const auto deepest = width.back();
    if (config.middle) {
      middle = register_module(
          "mid_block", std::make_shared<UNetStage>(config, levels - 1, std::vector<std::int64_t>{deepest, deepest}, 1));
    }

    auto up_list = register_group("up_blocks");
    auto current = deepest;
    for (std::size_t i = 0; i < levels; ++i) {
      const auto level = levels - 1 - i;
      std::vector<std::int64_t> inputs;
      for (std::int64_t j = 0; j <= config.layers_per_block; ++j) {
        inputs.push_back(current + skips.back());
        skips.pop_back();
        current = width[level];
      }
      const auto transformers = config.cross_attention[level] ? inputs.size() : 0;
      auto stage = std::make_shared<UNetStage>(config, level, inputs, transformers);
      if (level > 0) stage->add_upsampler(width[level]);
      up.push_back(up_list->register_module(std::to_string(i), stage));
    }
    conv_norm_out = register_module("conv_norm_out",
                                    std::make_shared<GroupNorm>(config.norm_num_groups, width[0], config.norm_eps));
    conv_out = register_module("conv_out", std::make_shared<Conv2d>(width[0], config.out_channels, 3, 1, 1));
  }

  /// Visits the stages in evaluation order.
  template <class Visitor>
  void for_each_stage(Visitor&& visit) const {
    for (const auto& stage : down) visit(*stage);
    if (middle) visit(*middle);
    for (const auto& stage : up) visit(*stage);
  }

  UNetConfig config;
  SegmentEvaluation evaluate_segment = nullptr;  ///< Set while gradients are checkpointed.
  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::shared_ptr<Linear> time_1, time_2;
  std::vector<std::shared_ptr<UNetStage>> down, up;
  std::shared_ptr<UNetStage> middle;  ///< Null in a network without one.
  std::shared_ptr<GroupNorm> conv_norm_out;
};

}  // namespace detail

/// UNet2DConditionModel of SD1.x and SD2.x with 4, 8 or 9 input channels. Holds weights only; the attention policy is
/// an argument of the call, so one loaded model serves editing, pair generation and inversion.
class UNet : public ModelHandle<detail::UNetModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = UNetConfig;
  static constexpr const char* component = "unet";  ///< Name of the model's folder.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit UNet(UNetConfig config) : ModelHandle(std::make_shared<detail::UNetModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const UNetConfig& config() const { return module_->config; }
  /// Channels of the latents and their condition.
  [[nodiscard]] std::int64_t in_channels() const { return config().in_channels; }
  /// Latent channels of the prediction.
  [[nodiscard]] std::int64_t out_channels() const { return config().out_channels; }

  /// Computes everything that depends on the timesteps alone. \param timesteps [B], fractional values allowed
  /// \return one [B, C, 1, 1] per residual block, in the model's dtype  \throws Error for another shape
  [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const {
    if (timesteps.dim() != 1) throw_error("UNet: timesteps: expected [B], found {}", shape_text(timesteps.sizes()));
    const auto embedding = timestep_embedding(timesteps.to(device()), config().block_out_channels[0],
                                              config().flip_sin_to_cos, config().freq_shift)
                               .to(dtype());
    const auto hidden = at::silu((*module_->time_2)(at::silu((*module_->time_1)(embedding))));
    TimeProjections projections;
    module_->for_each_stage([&](const detail::UNetStage& stage) {
      for (const auto& resnet : stage.resnets) {
        projections.push_back((*resnet->time_emb_proj)(hidden).unsqueeze(-1).unsqueeze(-1));
      }
    });
    return projections;
  }

  /// Computes everything that depends on the text alone. \param context [B, tokens, cross_attention_dim]
  /// \throws Error when the width is not the model's
  [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const {
    if (context.dim() != 3 || context.size(2) != config().cross_attention_dim) {
      throw_error("UNet: context: expected [B, tokens, {}], found {}", config().cross_attention_dim,
                  shape_text(context.sizes()));
    }
    const auto converted = context.to(device(), dtype());
    ContextProjections projections;
    module_->for_each_stage([&](const detail::UNetStage& stage) {
      for (const auto& attention : stage.attentions) {
        for (const auto& block : attention->blocks) projections.push_back(block->attn2->project(converted));
      }
    });
    return projections;
  }

  /// Predicts noise (or velocity, depending on the checkpoint's parameterisation).
  ///
  /// \param x [B, in_channels, h, w], any h, w >= 1; converted to the model's dtype
  /// \param timesteps [B] or [1]  \param context [B, tokens, cross_attention_dim]
  /// \param attend edits attention; `PlainAttention` leaves it alone  \param step passed to `attend`
  /// \return [B, out_channels, h, w] in the model's dtype
  /// \throws Error when a shape does not fit the model or the batch
  template <class Attention = PlainAttention>
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context,
                        const Attention& attend = {}, const Step& step = {}) const {
    return (*this)(x, project_time(timesteps), project_context(context), attend, step);
  }

  /// The same with the results of `project_time` and `project_context`, computed beforehand.
  ///
  /// \param rows int64 [R], or undefined. If defined, `texts` have R rows, `times` one, and row r of the prediction
  ///   belongs to row rows[r] of x: the layers before the first text cross-attention run once per row of x. The result
  ///   is exact; it pays off whenever guidance evaluates one input with several texts.
  /// \throws Error when the number of projections or a shape does not fit the model or the batch
  template <class Attention = PlainAttention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend = {}, const Step& step = {}, const at::Tensor& rows = {}) const {
    require_attention_policy<Attention>();
    if constexpr (std::same_as<Attention, AttentionReference>) {
      return evaluate(x, times, texts, attend, step, rows);
    } else {
      // The backward pass of checkpointed layers calls the policy again, so they own a copy.
      return evaluate(x, times, texts,
                      checkpointing(rows) ? AttentionReference(std::make_shared<const Attention>(attend))
                                          : AttentionReference(attend),
                      step, rows);
    }
  }

  /// The prediction, with the deep part of the network evaluated or taken over from another evaluation (see
  /// `DeepCache`). The deep part lies behind the first `shallow` skip connections, and its result is what enters the
  /// last `shallow` residual blocks of the up path.
  /// \param shallow in [1, skip_connections() - 1]
  /// \param deep undefined: everything is evaluated, exactly as without this, and `deep` is set; defined: the value set
  ///   by an earlier call with equally many rows and the same size
  /// \throws Error as the call above, and for `shallow` out of range and deep features of another shape
  template <class Attention>
  at::Tensor with_deep_features(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                                const Attention& attend, const Step& step, const at::Tensor& rows, std::int64_t shallow,
                                at::Tensor& deep) const {
    require_attention_policy<Attention>();
    if (shallow < 1 || shallow >= skip_connections()) {
      throw_error("UNet: shallow: expected 1 to {} skip connections, found {}", skip_connections() - 1, shallow);
    }
    const AttentionReference reference(attend);  // NOLINT(performance-unnecessary-copy-initialization)
    if (deep.defined()) return evaluate_shallow(x, times, texts, reference, step, rows, shallow, deep);
    return evaluate(x, times, texts, reference, step, rows, shallow, &deep);
  }

  /// Skip connections from the down path to the up path.
  [[nodiscard]] std::int64_t skip_connections() const {
    return (config().layers_per_block + 1) * static_cast<std::int64_t>(config().block_out_channels.size());
  }

  /// Changes with anything that a recording of an evaluation has fixed, values of weights excepted; nothing while
  /// layers are being watched. The evaluation depends on the step only through the attention policy.
  [[nodiscard]] std::optional<std::uint64_t> fingerprint() const {
    if (detail::FiniteProbe::active() != nullptr) return std::nullopt;
    return detail::fingerprint(*module_);
  }

 private:
  [[nodiscard]] bool checkpointing(const at::Tensor& rows) const {
    return module_->evaluate_segment != nullptr && at::GradMode::is_enabled() && !rows.defined();
  }

  /// \throws Error unless `operator()` can take these arguments
  void require_fits(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                    const at::Tensor& rows) const {
    if (x.dim() != 4 || x.size(1) != in_channels() || x.numel() == 0) {
      throw_error("UNet: x: expected [B, {}, h, w], found {}", in_channels(), shape_text(x.sizes()));
    }
    if (rows.defined() && (rows.dim() != 1 || rows.scalar_type() != at::kLong)) {
      throw_error("UNet: rows: expected int64 [R], found {} {}", c10::toString(rows.scalar_type()),
                  shape_text(rows.sizes()));
    }
    const auto batch = x.size(0);
    const auto asked = rows.defined() ? rows.size(0) : batch;
    std::size_t time = 0, text = 0;
    module_->for_each_stage([&](const detail::UNetStage& stage) {
      for (const auto& resnet : stage.resnets) {
        if (time < times.size()) require_time_fits(times[time], time, resnet->channels(), rows.defined() ? 1 : batch);
        ++time;
      }
      for (const auto& attention : stage.attentions) {
        for (const auto& block : attention->blocks) {
          if (text < texts.size()) require_text_fits(texts[text], text, *block->attn2, asked);
          ++text;
        }
      }
    });
    if (times.size() != time) throw_error("UNet: times: expected {} projections, found {}", time, times.size());
    if (texts.size() != text) throw_error("UNet: texts: expected {} projections, found {}", text, texts.size());
  }

  static void require_time_fits(const at::Tensor& time, std::size_t i, std::int64_t channels, std::int64_t batch) {
    if (time.dim() == 4 && (time.size(0) == 1 || time.size(0) == batch) && time.size(1) == channels &&
        time.size(2) == 1 && time.size(3) == 1) {
      return;
    }
    throw_error("UNet: times[{}]: expected [1, {}, 1, 1]{}, found {}", i, channels,
                batch == 1 ? std::string() : fmt::format(" or [{}, {}, 1, 1]", batch, channels),
                shape_text(time.sizes()));
  }

  static void require_text_fits(const KeysValues& text, std::size_t i, const CrossAttention& attention,
                                std::int64_t batch) {
    const auto head = attention.to_q->weight_shape()[0] / attention.heads;
    const auto& keys = text.keys;
    if (keys.dim() == 4 && keys.size(0) == batch && keys.size(1) == attention.heads && keys.size(3) == head &&
        text.values.sizes() == keys.sizes()) {
      return;
    }
    throw_error("UNet: texts[{}]: expected keys and values [{}, {}, tokens, {}], found {} and {}", i, batch,
                attention.heads, head, shape_text(keys.sizes()), shape_text(text.values.sizes()));
  }

  /// The first convolution of x.
  [[nodiscard]] at::Tensor first_map(const at::Tensor& x) const {
    auto placed = x.to(device(), dtype(), false, false, at::MemoryFormat::ChannelsLast);
    if (config().center_input_sample) placed = 2 * placed - 1.0;
    return (*module_->conv_in)(placed);
  }

  /// \param deep if not null, set to what enters the last `shallow` residual blocks
  at::Tensor evaluate(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                      const AttentionReference& attend, const Step& step, const at::Tensor& rows,
                      std::int64_t shallow = 0, at::Tensor* deep = nullptr) const {
    require_fits(x, times, texts, rows);
    const auto& m = *module_;
    detail::UNetPass pass{times.data(), texts.data(), attend, {}, rows};
    pass.site.step = step;

    auto h = first_map(x);
    std::vector<at::Tensor> skips{h};
    const bool checkpoint = checkpointing(rows);
    const auto layer = [&](const std::shared_ptr<detail::UNetStage>& stage, std::size_t i, const at::Tensor& input,
                           const at::Tensor& skip = {}) {
      if (checkpoint) return detail::UNetStage::layer_as_segment(m.evaluate_segment, stage, i, input, skip, pass);
      const bool shared = pass.rows.defined();
      auto output = stage->layer(i, detail::with_skip(input, skip), pass);
      if (shared && !pass.rows.defined()) {
        for (auto& kept : skips) kept = detail::take_rows(kept, rows);
      }
      return output;
    };
    for (const auto& stage : m.down) {
      for (std::size_t i = 0; i < stage->resnets.size(); ++i) {
        h = layer(stage, i, h);
        skips.push_back(h);
      }
      if (stage->downsampler) {
        h = (*stage->downsampler)(h);
        skips.push_back(h);
      }
    }
    if (m.middle) {
      h = layer(m.middle, 0, h);
      h = layer(m.middle, 1, h);
    }
    for (const auto& stage : m.up) {
      for (std::size_t i = 0; i < stage->resnets.size(); ++i) {
        if (deep != nullptr && static_cast<std::int64_t>(skips.size()) == shallow) *deep = h;
        h = layer(stage, i, h, skips.back());
        skips.pop_back();
      }
      if (stage->upsampler) h = (*stage->upsampler)(h, skips.back().size(2), skips.back().size(3));
    }
    return (*m.conv_out)(m.conv_norm_out->silu(h));
  }

  /// `evaluate` with the deep part left out: what enters the last `shallow` residual blocks is given.
  at::Tensor evaluate_shallow(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                              const AttentionReference& attend, const Step& step, const at::Tensor& rows,
                              std::int64_t shallow, const at::Tensor& deep) const {
    require_fits(x, times, texts, rows);
    const auto& m = *module_;
    const auto wanted = static_cast<std::size_t>(shallow);
    detail::UNetPass pass{times.data(), texts.data(), attend, {}, rows};
    pass.site.step = step;

    auto h = first_map(x);
    std::vector<at::Tensor> skips{h};
    for (const auto& stage : m.down) {
      for (std::size_t i = 0; i < stage->resnets.size(); ++i) {
        if (skips.size() == wanted) {
          stage->pass_over(i, pass);
          continue;
        }
        const bool shared = pass.rows.defined();
        h = stage->layer(i, h, pass);
        if (shared && !pass.rows.defined()) {
          for (auto& kept : skips) kept = detail::take_rows(kept, rows);
        }
        skips.push_back(h);
      }
      if (stage->downsampler && skips.size() < wanted) {
        h = (*stage->downsampler)(h);
        skips.push_back(h);
      }
    }
    if (m.middle) {
      for (std::size_t i = 0; i < m.middle->resnets.size(); ++i) m.middle->pass_over(i, pass);
    }
    if (pass.rows.defined()) {
      for (auto& kept : skips) kept = detail::take_rows(kept, rows);
      pass.rows.reset();
    }

    auto left = skip_connections();
    h = deep;
    for (const auto& stage : m.up) {
      for (std::size_t i = 0; i < stage->resnets.size(); ++i, --left) {
        if (left > shallow) {
          stage->pass_over(i, pass);
          continue;
        }
        const auto& skip = skips.back();
        const auto channels = stage->resnets[i]->norm1->weight.size(0) - skip.size(1);
        if (left == shallow && (h.dim() != 4 || h.size(0) != skip.size(0) || h.size(1) != channels ||
                                h.sizes().slice(2) != skip.sizes().slice(2))) {
          throw_error("UNet: deep features: expected [{}, {}, {}, {}], found {}", skip.size(0), channels, skip.size(2),
                      skip.size(3), shape_text(h.sizes()));
        }
        h = stage->layer(i, detail::with_skip(h, skip), pass);
        skips.pop_back();
      }
      if (stage->upsampler && left < shallow) {
        h = (*stage->upsampler)(h, skips.back().size(2), skips.back().size(3));
      }
    }
    return (*m.conv_out)(m.conv_norm_out->silu(h));
  }
};
static_assert(DenoisingNetwork<UNet> && TrainableNetwork<UNet>);

}  // namespace ip2p
