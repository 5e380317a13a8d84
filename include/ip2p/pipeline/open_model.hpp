#pragma once

/// \file
/// A model that opens itself: from a path to a pipeline that is ready to run, everything that its files decide decided.
///
/// This header declares, and is quick to compile. Without the compiled component it includes the definitions,
/// with all models that a file can hold, at its end; a consumer of `ip2p::compiled` links them instead.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/attention/prompt_tokens.hpp"
#include "ip2p/codec/any_codec.hpp"
#include "ip2p/execution/any_execution.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/text/any_text_encoder.hpp"
#include "ip2p/unet/any_network.hpp"

namespace ip2p {

/// An editor whose parts a model's files decide.
using Editor = EditPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, DualGuidance>;

/// A text-to-image pipeline whose parts a model's files decide.
using TextToImage = TextToImagePipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;

/// An inpainting pipeline whose parts a model's files decide.
using Inpainter = InpaintPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;

/// A LoRA file and how much it counts.
struct LoraChoice {
  std::filesystem::path file;
  double scale = 1.0;  ///< Factor of its change; 1 as it was trained, 0 for none, any finite number.
};

/// How a model is opened, and what is added to it.
struct OpenOptions {
  std::optional<at::Device> device = {};  ///< Unset: `best_device()`.
  /// Of the arithmetic: fp32, bf16 or fp16; unset: `best_dtype(device)`, or fp32 with `int8`.
  std::optional<at::ScalarType> dtype = {};
  /// Text encoder and codec are in memory only while they work, the codec works tile by tile, branches are evaluated
  /// one after another, and fp32 arithmetic reads weights of 16 bits.
  bool low_memory = false;
  bool inference = true;  ///< False keeps plain weights through which gradients can pass.
  /// The published program whose noise levels, size rule and rounding the pipeline takes.
  Numerics numerics = Numerics::released;
  bool prefer_ema = true;                ///< The averaged weights where there are some.
  std::string variant = {};              ///< Folders: take `*.VARIANT.safetensors`, e.g. "fp16".
  std::filesystem::path tokenizer = {};  ///< Folder with vocab.json and merges.txt, for single files.
  std::filesystem::path vae = {};        ///< Another file's or folder's autoencoder; see `ModelFilesOptions::vae`.
  std::filesystem::path base = {};       ///< A model that gives what this one lacks; see `ModelFilesOptions::base`.
  std::string prediction_type = {};      ///< Single files: "epsilon" or "v_prediction" where no tensor tells it.
  std::vector<LoraChoice> loras = {};    ///< Added in turn to the network and the text encoder.
  /// Prompts may weight words, as in `(snowy:1.5)`: see `parse_prompt`. Prompts without such marks mean the same.
  bool prompt_marks = true;
  bool partial_loras = false;                          ///< Leave out what a LoRA has for layers that the model lacks.
  std::vector<std::filesystem::path> embeddings = {};  ///< Textual inversions, whose words prompts may then use.
  /// Interval of the `DeepCache` that the network is put in, >= 1: a faster run that gives another picture, close to
  /// the exact one for small intervals; 1: none.
  std::int64_t deep_cache = 1;
  bool direct_convolutions = false;  ///< Network and codec convolve directly on a CPU (`ConvolutionForm::direct`).
  bool fp8 = false;                  ///< The network's transformers compute in 8 bits (`use_fp8`), approximately.
  bool int8 = false;                 ///< The network's weights are in 8 bits (`use_int8`), on a CPU, approximately.
  AnyExecution execution = {};       ///< Of the pipelines; `Eager` unless set.
  /// Told, in a sentence each, what was left out under `partial_loras`.
  std::function<void(const std::string&)> warn = {};
};

/// What the authors of a model recommend for it; see `ModelFiles::settings`.
struct ModelSettings {
  std::optional<std::int64_t> steps = {};       ///< Steps of a run.
  std::optional<std::int64_t> resolution = {};  ///< Long side in pixels.
  std::optional<double> image_scale = {};       ///< Of an editor's guidance.
  std::optional<double> text_scale = {};        ///< Of guidance along the text.
  std::optional<std::string> sampler = {};      ///< Name of an `AnySampler`.
};

/// How long a prompt is for a model.
struct PromptLength {
  std::int64_t tokens = 0;   ///< Of the whole prompt, without the marks of beginning and end.
  std::int64_t limit = 0;    ///< So many count.
  std::string dropped = {};  ///< What lies beyond the limit, as text; empty where all of it counts.
};

/// What a model's UNet takes beside noisy latents of C channels.
enum class ModelKind {
  text_to_image,  ///< Nothing: C input channels.
  editor,         ///< The photograph's latents (InstructPix2Pix): 2 C.
  inpainting,     ///< A mask and the masked photograph's latents: 2 C + 1.
};

/// A model's files, opened: headers and configurations are read, weights are when a part is asked for. A regular value;
/// copies share what was read.
class OpenedModel {
 public:
  /// \param path a diffusers folder or a single-file checkpoint; see `ModelFiles`
  /// \throws Error for files that are absent, damaged or something else, and for additions that do not fit
  static OpenedModel open(const std::filesystem::path& path, const OpenOptions& options = {});

  /// What was found and chosen, one line a component; then a line for each LoRA and textual inversion.
  [[nodiscard]] std::string describe() const;

  /// The folder or file.
  [[nodiscard]] const std::filesystem::path& path() const;
  /// As the configurations say. \throws Error for a UNet with other input channels
  [[nodiscard]] ModelKind kind() const;
  [[nodiscard]] const OpenOptions& options() const;  ///< Device and dtype are set.
  /// What the model says about its noise and its prediction.
  [[nodiscard]] const SchedulerConfig& scheduler() const;
  /// What its authors recommend.
  [[nodiscard]] const ModelSettings& settings() const;
  /// How much of a prompt counts.
  [[nodiscard]] PromptLength length(std::string_view prompt) const;
  [[nodiscard]] PromptTokens tokens(std::string_view prompt) const;  ///< The prompt's words, for edits of attention.

  [[nodiscard]] AnyTextEncoder text_encoder() const;  ///< Loads it, and what was added to it.
  [[nodiscard]] AnyCodec codec() const;               ///< The one that the files say.
  [[nodiscard]] AnyNetwork network() const;           ///< Loads the UNet, and what was added to it.
  /// The model's noise and prediction under the schedule of `OpenOptions::numerics`.
  [[nodiscard]] ModelDiffusion diffusion() const;

  /// The pipelines, each with the model's recommendations. \throws Error where the UNet has other input channels
  [[nodiscard]] Editor editor() const;
  /// The same for a model that draws from text alone.
  [[nodiscard]] TextToImage text_to_image() const;
  /// The same for a model that redraws part of a picture.
  [[nodiscard]] Inpainter inpainter() const;

 private:
  struct Files;
  explicit OpenedModel(std::shared_ptr<const Files> files);
  std::shared_ptr<const Files> files_;
};

/// An InstructPix2Pix model as a ready editor, on the best device there is unless the options name one.
///
/// \code
/// auto edit = ip2p::open_editor("instruct-pix2pix");
/// ip2p::write_image("out.png", edit(ip2p::read_image("in.jpg"), "make it snowy"));
/// \endcode
/// \throws Error as `OpenedModel::open`, and for a model of another kind
[[nodiscard]] Editor open_editor(const std::filesystem::path& path, const OpenOptions& options = {});

/// A Stable Diffusion model as a ready text-to-image pipeline. \throws Error as `open_editor`
[[nodiscard]] TextToImage open_text_to_image(const std::filesystem::path& path, const OpenOptions& options = {});

/// A Stable Diffusion model, an inpainting one or not, as a ready inpainting pipeline. \throws Error as `open_editor`
[[nodiscard]] Inpainter open_inpainter(const std::filesystem::path& path, const OpenOptions& options = {});

}  // namespace ip2p

#ifdef IP2P_COMPILED
#include "ip2p/core/any_noise.hpp"

namespace ip2p {
extern template class AnySamplerOf<EulerAncestral, Euler, Heun, Dpm2, Dpm2Ancestral, Lms, DpmPlusPlus2M,
                                   DpmPlusPlus2SAncestral, DpmPlusPlus2MSde, DpmPlusPlus3MSde, UniPc, Ddim, Ddpm, Lcm>;
extern template struct detail::BranchEvaluation<AnyNetwork, PlainAttention>;
extern template class BranchNetwork<AnyNetwork, PlainAttention>;
extern template class LatentPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, DualGuidance>;
extern template class LatentPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;
extern template class EditPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, DualGuidance>;
extern template class TextToImagePipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler,
                                          TextGuidance>;
extern template class InpaintPipeline<AnyTextEncoder, AnyCodec, AnyNetwork, ModelDiffusion, AnySampler, TextGuidance>;
extern template at::Tensor Editor::LatentPipeline::denoise(const at::Tensor&, std::span<const double>, Conditioning,
                                                           AnyNoise&, const RunHooks&, const PlainAttention&) const;
extern template PipelineResult Editor::run(std::span<const Image>, std::span<const std::string>, const RunSettings&,
                                           AnyNoise&, const PlainAttention&) const;
extern template PipelineResult TextToImage::run(std::span<const std::string>, const RunSettings&, AnyNoise&,
                                                const PlainAttention&) const;
}  // namespace ip2p
#else
#include "ip2p/pipeline/open_model_definitions.hpp"
#include "ip2p/pipeline/open_model_parts.hpp"
#endif
