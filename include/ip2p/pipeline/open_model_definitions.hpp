#pragma once

/// \file
/// Definitions of `OpenedModel` but those of open_model_parts.hpp. Included by open_model.hpp, or compiled once into
/// `ip2p::compiled`.

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ip2p/attention/prompt_tokens.hpp"
#include "ip2p/codec/any_codec.hpp"
#include "ip2p/core/definitions.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/load_codec.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/open_model_files.inc"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/weighted_tokens.hpp"
#include "ip2p/unet/unet.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// The typed form of `ModelFiles::settings`. \param where named in errors
inline ModelSettings model_settings(const nlohmann::json& json, const std::string& where) {
  const auto number = [&]<class Value>(const char* key, std::optional<Value>& value) {
    const auto found = json.find(key);
    if (found == json.end()) return;
    require(std::is_floating_point_v<Value> ? found->is_number() : found->is_number_integer(),
            "{}: _ip2p_settings: {}: expected {}, found {}", where, key,
            std::is_floating_point_v<Value> ? "a number" : "a whole number", found->dump());
    value = found->get<Value>();
  };
  ModelSettings settings;
  number("steps", settings.steps);
  number("resolution", settings.resolution);
  number("image_scale", settings.image_scale);
  number("text_scale", settings.text_scale);
  if (const auto found = json.find("sampler"); found != json.end()) {
    require(found->is_string(), "{}: _ip2p_settings: sampler: expected a name, found {}", where, found->dump());
    settings.sampler = found->get<std::string>();
  }
  return settings;
}

}  // namespace detail

IP2P_INLINE OpenedModel::OpenedModel(std::shared_ptr<const Files> files) : files_(std::move(files)) {}

IP2P_INLINE OpenedModel OpenedModel::open(const std::filesystem::path& path, const OpenOptions& given) {
  auto options = given;
  if (!options.device) options.device = best_device();
  if (!options.dtype) options.dtype = options.int8 ? at::kFloat : best_dtype(*options.device);
  auto files =
      ModelFiles::open(path, {.prefer_ema = options.prefer_ema,
                              .variant = options.variant,
                              .tokenizer = options.tokenizer,
                              .vae = options.vae,
                              .prediction_type = options.prediction_type,
                              .base = options.base,
                              .weights = {.access = options.low_memory ? WeightAccess::copied : WeightAccess::mapped}});
  const auto scheduler = files.has("scheduler")
                             ? scheduler_config_from_json(files.config("scheduler"), path.string() + " (scheduler)")
                             : SchedulerConfig{};
  auto settings = detail::model_settings(files.settings(), path.string());
  const auto text = options.numerics == Numerics::released ? TokenizerText::released : TokenizerText::as_written;
  auto tokenizer = BpeTokenizer::open(files.tokenizer(), {.text = text, .invalid_utf8 = InvalidUtf8::error});
  // Without fast 16-bit arithmetic, fp32 over weights of 16 bits: half the memory, nearly the same picture.
  const LoadOptions load{
      .device = *options.device,
      .dtype = *options.dtype,
      .storage = options.low_memory && options.dtype == at::kFloat ? std::optional(at::kHalf) : std::nullopt,
      .inference = options.inference,
      .prepare = !options.direct_convolutions,  // set after loading, to a form that the first call chooses
      .text = text};
  auto plain_tokenizer = tokenizer;
  auto opened = std::make_shared<Files>(Files{.files = std::move(files),
                                              .options = std::move(options),
                                              .scheduler = scheduler,
                                              .settings = std::move(settings),
                                              .tokenizer = std::move(tokenizer),
                                              .plain_tokenizer = std::move(plain_tokenizer),
                                              .load = load,
                                              .loras = {},
                                              .embeddings = {},
                                              .additions = {}});
  for (const auto& choice : opened->options.loras) opened->add_lora(choice);
  for (const auto& file : opened->options.embeddings) opened->add_embedding(file);
  return OpenedModel(std::move(opened));
}

IP2P_INLINE std::string OpenedModel::describe() const {
  auto text = files_->files.describe();
  for (const auto& line : files_->additions) text += "\n  " + line;
  return text;
}

IP2P_INLINE const std::filesystem::path& OpenedModel::path() const { return files_->files.path(); }
IP2P_INLINE const OpenOptions& OpenedModel::options() const { return files_->options; }
IP2P_INLINE const SchedulerConfig& OpenedModel::scheduler() const { return files_->scheduler; }
IP2P_INLINE const ModelSettings& OpenedModel::settings() const { return files_->settings; }

IP2P_INLINE ModelKind OpenedModel::kind() const {
  const auto channels =
      with_codec_of(files_->files, [&]<class Codec>() { return files_->config<Codec>().latent_channels; });
  const auto found = files_->config<UNet>().in_channels;
  if (found == channels) return ModelKind::text_to_image;
  if (found == 2 * channels) return ModelKind::editor;
  require(found == 2 * channels + 1, "{}: expected a UNet with {}, {} or {} input channels, found {}", path().string(),
          channels, 2 * channels, 2 * channels + 1, found);
  return ModelKind::inpainting;
}

IP2P_INLINE PromptLength OpenedModel::length(std::string_view prompt) const {
  auto tokens = files_->options.prompt_marks ? weighted_tokens(files_->tokenizer, prompt).tokens
                                             : files_->tokenizer.encode(prompt);
  return {.tokens = static_cast<std::int64_t>(tokens.count),
          .limit = files_->tokenizer.max_length() - 2,
          .dropped = std::move(tokens.dropped)};
}

IP2P_INLINE PromptTokens OpenedModel::tokens(std::string_view prompt) const {
  return prompt_tokens(files_->tokenizer, prompt);
}

IP2P_INLINE AnyCodec OpenedModel::codec() const {
  return with_codec_of(files_->files, [&]<class Codec>() { return files_->codec<Codec>(); });
}

IP2P_INLINE ModelDiffusion OpenedModel::diffusion() const {
  return diffusion_of(files_->scheduler, files_->options.numerics);
}

IP2P_INLINE Editor OpenedModel::editor() const {
  DualGuidance guidance;
  guidance.image_scale = files_->settings.image_scale.value_or(guidance.image_scale);
  guidance.text_scale = files_->settings.text_scale.value_or(guidance.text_scale);
  return files_->pipeline<Editor>(*this, guidance);
}

IP2P_INLINE TextToImage OpenedModel::text_to_image() const {
  return files_->pipeline<TextToImage>(*this, TextGuidance{files_->settings.text_scale.value_or(7.5)});
}

IP2P_INLINE Inpainter OpenedModel::inpainter() const {
  return files_->pipeline<Inpainter>(*this, TextGuidance{files_->settings.text_scale.value_or(7.5)});
}

IP2P_INLINE Editor open_editor(const std::filesystem::path& path, const OpenOptions& options) {
  return OpenedModel::open(path, options).editor();
}

IP2P_INLINE TextToImage open_text_to_image(const std::filesystem::path& path, const OpenOptions& options) {
  return OpenedModel::open(path, options).text_to_image();
}

IP2P_INLINE Inpainter open_inpainter(const std::filesystem::path& path, const OpenOptions& options) {
  return OpenedModel::open(path, options).inpainter();
}

}  // namespace ip2p
#endif
