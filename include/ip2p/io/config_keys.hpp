#pragma once

/// \file
/// Which keys of diffusers' and transformers' configurations are honoured, which are refused unless they have the value
/// that this library computes with, and which do not affect the result.
///
/// docs/reference/config-keys.md shows these tables; tests/parity/check_config_keys.py compares them with the classes
/// themselves, so that a key that a new version adds cannot be passed over unseen.

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"

namespace ip2p::detail {

/// How a key is treated.
enum class KeyUse {
  read,    ///< Its value is honoured.
  fixed,   ///< Refused unless it has one of the values that are supported.
  unused,  ///< It does not affect what this library computes.
};

/// A key of a configuration.
struct ConfigKey {
  std::string_view name;
  KeyUse use = KeyUse::read;
  std::string_view supported = {};  ///< Of a `fixed` key: a JSON list of values; null is always one of them.
};

/// Keys of diffusers' `UNet2DConditionModel`.
inline constexpr std::array unet_keys{
    ConfigKey{"sample_size", KeyUse::unused},
    ConfigKey{"in_channels"},
    ConfigKey{"out_channels"},
    ConfigKey{"center_input_sample"},
    ConfigKey{"flip_sin_to_cos"},
    ConfigKey{"freq_shift"},
    ConfigKey{"down_block_types"},
    ConfigKey{"mid_block_type"},
    ConfigKey{"up_block_types"},
    ConfigKey{"only_cross_attention", KeyUse::fixed, "[false]"},
    ConfigKey{"block_out_channels"},
    ConfigKey{"layers_per_block"},
    ConfigKey{"downsample_padding", KeyUse::fixed, "[1]"},
    ConfigKey{"mid_block_scale_factor", KeyUse::fixed, "[1]"},
    ConfigKey{"dropout", KeyUse::unused},
    ConfigKey{"act_fn", KeyUse::fixed, R"(["silu", "swish"])"},
    ConfigKey{"norm_num_groups"},
    ConfigKey{"norm_eps"},
    ConfigKey{"cross_attention_dim"},
    ConfigKey{"transformer_layers_per_block"},
    ConfigKey{"reverse_transformer_layers_per_block", KeyUse::fixed, "[]"},
    ConfigKey{"encoder_hid_dim", KeyUse::fixed, "[]"},
    ConfigKey{"encoder_hid_dim_type", KeyUse::fixed, "[]"},
    ConfigKey{"attention_head_dim"},
    ConfigKey{"num_attention_heads"},
    ConfigKey{"dual_cross_attention", KeyUse::fixed, "[false]"},
    ConfigKey{"use_linear_projection"},
    ConfigKey{"class_embed_type", KeyUse::fixed, "[]"},
    ConfigKey{"addition_embed_type", KeyUse::fixed, "[]"},
    ConfigKey{"addition_time_embed_dim", KeyUse::unused},
    ConfigKey{"num_class_embeds", KeyUse::fixed, "[]"},
    ConfigKey{"upcast_attention", KeyUse::unused},
    ConfigKey{"resnet_time_scale_shift", KeyUse::fixed, R"(["default"])"},
    ConfigKey{"resnet_skip_time_act", KeyUse::fixed, "[false]"},
    ConfigKey{"resnet_out_scale_factor", KeyUse::fixed, "[1]"},
    ConfigKey{"time_embedding_type", KeyUse::fixed, R"(["positional"])"},
    ConfigKey{"time_embedding_dim"},
    ConfigKey{"time_embedding_act_fn", KeyUse::fixed, "[]"},
    ConfigKey{"timestep_post_act", KeyUse::fixed, "[]"},
    ConfigKey{"time_cond_proj_dim", KeyUse::fixed, "[]"},
    ConfigKey{"conv_in_kernel", KeyUse::fixed, "[3]"},
    ConfigKey{"conv_out_kernel", KeyUse::fixed, "[3]"},
    ConfigKey{"projection_class_embeddings_input_dim", KeyUse::unused},
    ConfigKey{"attention_type", KeyUse::fixed, R"(["default"])"},
    ConfigKey{"class_embeddings_concat", KeyUse::fixed, "[false]"},
    ConfigKey{"mid_block_only_cross_attention", KeyUse::fixed, "[false]"},
    ConfigKey{"cross_attention_norm", KeyUse::fixed, "[]"},
    ConfigKey{"addition_embed_type_num_heads", KeyUse::unused},
};

/// Keys of diffusers' `AutoencoderKL`.
inline constexpr std::array autoencoder_keys{
    ConfigKey{"in_channels", KeyUse::fixed, "[3]"},
    ConfigKey{"out_channels", KeyUse::fixed, "[3]"},
    ConfigKey{"down_block_types", KeyUse::fixed, R"(["DownEncoderBlock2D"])"},
    ConfigKey{"up_block_types", KeyUse::fixed, R"(["UpDecoderBlock2D"])"},
    ConfigKey{"block_out_channels"},
    ConfigKey{"layers_per_block"},
    ConfigKey{"act_fn", KeyUse::fixed, R"(["silu", "swish"])"},
    ConfigKey{"latent_channels"},
    ConfigKey{"norm_num_groups"},
    ConfigKey{"sample_size", KeyUse::unused},
    ConfigKey{"scaling_factor"},
    ConfigKey{"shift_factor", KeyUse::fixed, "[0]"},
    ConfigKey{"latents_mean", KeyUse::fixed, "[]"},
    ConfigKey{"latents_std", KeyUse::fixed, "[]"},
    ConfigKey{"force_upcast", KeyUse::unused},
    ConfigKey{"use_quant_conv", KeyUse::fixed, "[true]"},
    ConfigKey{"use_post_quant_conv", KeyUse::fixed, "[true]"},
    ConfigKey{"mid_block_add_attention", KeyUse::fixed, "[true]"},
};

/// Keys of diffusers' `AutoencoderTiny`.
inline constexpr std::array tiny_autoencoder_keys{
    ConfigKey{"in_channels", KeyUse::fixed, "[3]"},
    ConfigKey{"out_channels", KeyUse::fixed, "[3]"},
    ConfigKey{"encoder_block_out_channels"},
    ConfigKey{"decoder_block_out_channels"},
    ConfigKey{"act_fn", KeyUse::fixed, R"(["relu"])"},
    ConfigKey{"upsample_fn", KeyUse::fixed, R"(["nearest"])"},
    ConfigKey{"latent_channels"},
    ConfigKey{"upsampling_scaling_factor", KeyUse::fixed, "[2]"},
    ConfigKey{"num_encoder_blocks"},
    ConfigKey{"num_decoder_blocks"},
    ConfigKey{"latent_magnitude", KeyUse::unused},
    ConfigKey{"latent_shift", KeyUse::unused},
    ConfigKey{"force_upcast", KeyUse::unused},
    ConfigKey{"scaling_factor"},
    ConfigKey{"shift_factor", KeyUse::fixed, "[0]"},
};

/// Keys of diffusers' `AutoencoderDC`.
inline constexpr std::array dc_autoencoder_keys{
    ConfigKey{"in_channels", KeyUse::fixed, "[3]"},
    ConfigKey{"latent_channels"},
    ConfigKey{"attention_head_dim", KeyUse::unused},
    ConfigKey{"encoder_block_types", KeyUse::fixed, R"(["ResBlock"])"},
    ConfigKey{"decoder_block_types", KeyUse::fixed, R"(["ResBlock"])"},
    ConfigKey{"encoder_block_out_channels"},
    ConfigKey{"decoder_block_out_channels"},
    ConfigKey{"encoder_layers_per_block"},
    ConfigKey{"decoder_layers_per_block"},
    ConfigKey{"encoder_qkv_multiscales", KeyUse::unused},
    ConfigKey{"decoder_qkv_multiscales", KeyUse::unused},
    ConfigKey{"upsample_block_type", KeyUse::fixed, R"(["pixel_shuffle"])"},
    ConfigKey{"downsample_block_type", KeyUse::fixed, R"(["pixel_unshuffle"])"},
    ConfigKey{"decoder_norm_types", KeyUse::fixed, R"(["rms_norm"])"},
    ConfigKey{"decoder_act_fns", KeyUse::fixed, R"(["silu"])"},
    ConfigKey{"encoder_out_shortcut", KeyUse::fixed, "[true]"},
    ConfigKey{"decoder_in_shortcut", KeyUse::fixed, "[true]"},
    ConfigKey{"decoder_conv_act_fn", KeyUse::fixed, R"(["relu"])"},
    ConfigKey{"scaling_factor"},
};

/// Keys of transformers' `CLIPTextConfig`; those of every `PretrainedConfig` do not concern the network.
inline constexpr std::array clip_text_keys{
    ConfigKey{"vocab_size"},
    ConfigKey{"hidden_size"},
    ConfigKey{"intermediate_size"},
    ConfigKey{"projection_dim", KeyUse::unused},
    ConfigKey{"num_hidden_layers"},
    ConfigKey{"num_attention_heads"},
    ConfigKey{"max_position_embeddings"},
    ConfigKey{"hidden_act"},
    ConfigKey{"layer_norm_eps"},
    ConfigKey{"attention_dropout", KeyUse::unused},
    ConfigKey{"initializer_range", KeyUse::unused},
    ConfigKey{"initializer_factor", KeyUse::unused},
    ConfigKey{"pad_token_id", KeyUse::unused},
    ConfigKey{"bos_token_id", KeyUse::unused},
    ConfigKey{"eos_token_id", KeyUse::unused},
};

/// Keys of diffusers' schedulers for Stable Diffusion. Those that belong to one sampler alone are not used, because
/// samplers are chosen by name and are as their papers have them.
inline constexpr std::array scheduler_keys{
    ConfigKey{"num_train_timesteps"},
    ConfigKey{"beta_start"},
    ConfigKey{"beta_end"},
    ConfigKey{"beta_schedule"},
    ConfigKey{"trained_betas"},
    ConfigKey{"prediction_type"},
    ConfigKey{"timestep_spacing"},
    ConfigKey{"steps_offset"},
    ConfigKey{"rescale_betas_zero_snr"},
    ConfigKey{"use_karras_sigmas"},
    ConfigKey{"use_exponential_sigmas"},
    ConfigKey{"use_beta_sigmas", KeyUse::fixed, "[false]"},
    ConfigKey{"use_lu_lambdas", KeyUse::fixed, "[false]"},
    ConfigKey{"use_flow_sigmas", KeyUse::fixed, "[false]"},
    ConfigKey{"flow_shift", KeyUse::unused},
    ConfigKey{"use_dynamic_shifting", KeyUse::fixed, "[false]"},
    ConfigKey{"time_shift_type", KeyUse::unused},
    ConfigKey{"shift_terminal", KeyUse::fixed, "[]"},
    ConfigKey{"interpolation_type", KeyUse::fixed, R"(["linear"])"},
    ConfigKey{"timestep_type", KeyUse::fixed, R"(["discrete"])"},
    ConfigKey{"sigma_min", KeyUse::fixed, "[]"},
    ConfigKey{"sigma_max", KeyUse::fixed, "[]"},
    ConfigKey{"final_sigmas_type", KeyUse::fixed, R"(["zero"])"},
    ConfigKey{"thresholding", KeyUse::fixed, "[false]"},
    ConfigKey{"dynamic_thresholding_ratio", KeyUse::unused},
    ConfigKey{"sample_max_value", KeyUse::unused},
    ConfigKey{"variance_type", KeyUse::fixed,
              R"(["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"])"},
    ConfigKey{"clip_sample", KeyUse::unused},
    ConfigKey{"clip_sample_range", KeyUse::unused},
    ConfigKey{"set_alpha_to_one", KeyUse::unused},
    ConfigKey{"skip_prk_steps", KeyUse::unused},
    ConfigKey{"solver_order", KeyUse::unused},
    ConfigKey{"algorithm_type", KeyUse::unused},
    ConfigKey{"solver_type", KeyUse::unused},
    ConfigKey{"lower_order_final", KeyUse::unused},
    ConfigKey{"euler_at_final", KeyUse::unused},
    ConfigKey{"lambda_min_clipped", KeyUse::unused},
    ConfigKey{"predict_x0", KeyUse::unused},
    ConfigKey{"disable_corrector", KeyUse::unused},
    ConfigKey{"solver_p", KeyUse::unused},
    ConfigKey{"original_inference_steps", KeyUse::unused},
    ConfigKey{"timestep_scaling", KeyUse::unused},
    ConfigKey{"noise_sampler_seed", KeyUse::unused},
    ConfigKey{"predictor_order", KeyUse::unused},
    ConfigKey{"corrector_order", KeyUse::unused},
    ConfigKey{"tau_func", KeyUse::unused},
};

/// diffusers' schedulers whose noise levels come from betas, as Stable Diffusion's do.
inline constexpr std::array<std::string_view, 21> scheduler_classes{
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
};

/// Throws `Error` naming key, value and what is supported, for a `fixed` key with another value. A list is taken for
/// its entries if there are any. \param where named in errors
inline void require_supported(const nlohmann::json& config, std::span<const ConfigKey> keys, std::string_view where) {
  for (const auto& key : keys) {
    if (key.use != KeyUse::fixed) continue;
    const auto found = config.find(key.name);
    if (found == config.end() || found->is_null()) continue;
    const auto supported = nlohmann::json::parse(key.supported);
    const auto fits = [&](const nlohmann::json& value) {
      return value.is_null() || std::find(supported.begin(), supported.end(), value) != supported.end();
    };
    if (found->is_array() && !found->empty() ? std::all_of(found->begin(), found->end(), fits) : fits(*found)) continue;
    std::string expected;
    for (const auto& value : supported) expected += (expected.empty() ? "" : " or ") + json_text(value);
    throw_error("{}: {}: expected {}, found {}, which is not supported", where, key.name,
                expected.empty() ? "none" : expected, json_text(*found));
  }
}

/// Throws `Error` unless `config` has no "_class_name" or "model_type", or one of `classes`.
inline void require_class(const nlohmann::json& config, std::string_view key, std::span<const std::string_view> classes,
                          std::string_view where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return;
  const bool known = found->is_string() &&
                     std::find(classes.begin(), classes.end(), found->get_ref<const std::string&>()) != classes.end();
  if (known) return;
  std::string expected;
  for (const auto name : classes) expected += (expected.empty() ? "" : ", ") + std::string(name);
  throw_error("{}: {}: expected {}, found {}, which is not supported", where, key, expected, json_text(*found));
}

}  // namespace ip2p::detail
