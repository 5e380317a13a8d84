#pragma once

/// \file
/// Published models on disk: diffusers folders, single-file checkpoints, and TAESD, behind one set of names.

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/tokenizer_files.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// Options of `ModelFiles::open`.
struct ModelFilesOptions {
  /// Take the exponential moving average of the UNet where a single file or a training checkpoint's folder holds one.
  bool prefer_ema = true;
  /// Folders: "fp16" takes `*.fp16.safetensors`; empty takes the plain files, or else the only variant there is.
  std::string variant{};
  /// Folder with vocab.json and merges.txt (or with a folder `tokenizer` that has them); needed for single files, which
  /// hold no tokenizer. May be a name on the Hub. Takes precedence over a model folder's own.
  std::filesystem::path tokenizer{};
  /// Another model whose autoencoder takes the place of this one's: anything that `ModelFiles::open` opens and that has
  /// a "vae", so also a component's folder or a single file of an autoencoder alone (Stable Diffusion's ft-MSE, say).
  std::filesystem::path vae{};
  /// Single files: "epsilon" or "v_prediction". Empty: what the file's metadata or marks (`v_pred`) say, or else
  /// epsilon. The shapes of Stable Diffusion 2 are the same for both; if such a file does not say which it is, its
  /// scheduler cannot be read.
  std::string prediction_type{};
  /// Another model that gives the components and the tokenizer that this one lacks, such as the model that the UNet of
  /// a training checkpoint was trained from.
  std::filesystem::path base{};
  /// Component name -> JSON object that is merged over its configuration (RFC 7396), for what shapes cannot tell.
  nlohmann::json overrides = nlohmann::json::object();
  /// Mapped by default: a 3.8 GB file whose tensors are all converted on the way in loads in 1.2 s against 6.5 s
  /// copied, and in 0.03 s against 3.1 s where they are used as they are (one thread, file in the page cache). See
  /// `WeightAccess::mapped` for the one thing that must then not happen to the file.
  SafetensorsOptions weights{.access = WeightAccess::mapped, .check_finite = false};
};

/// A model on disk, of which only headers and JSON files have been read.
///
/// Components are "unet", "vae", "text_encoder", "scheduler" and "clip" (both towers of a CLIP); their weights always
/// have the names of diffusers and transformers, their configurations the form of config.json, wherever they come from.
/// Understands
/// - a diffusers folder (whole, fp16 variants, sharded), and the folder of a single component;
/// - a folder with `taesd_encoder.safetensors` and `taesd_decoder.safetensors`;
/// - a single-file checkpoint of Stable Diffusion 1.x or 2.x, of any number of input channels, or a part of one;
/// - a CLIP: the folder of a transformers CLIPModel (which also gives a "text_encoder"), or an OpenCLIP checkpoint.
/// A regular value; copies share the open files.
class ModelFiles {
 public:
  /// Settings of `open`.
  using Options = ModelFilesOptions;

  /// Opens a folder, a file, or a model's name on the Hugging Face Hub, which is looked up in the cache that diffusers
  /// fills (`resolve_model`). Throws `Error` saying what was looked for and what was found; for files that are damaged
  /// or something else see `SafetensorsFile::open`.
  static ModelFiles open(const std::filesystem::path& name, const Options& options = {});

  /// Settings that the model's authors recommend, from the entry `_ip2p_settings` of a folder's model_index.json: an
  /// object with any of steps, resolution, image_scale, text_scale, sampler; empty where there is none. Other readers
  /// of such folders pass over entries with an underscore.
  [[nodiscard]] nlohmann::json settings() const;

  /// The path that was opened; for a name, what it was found to be.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Where a component comes from, for messages: "model (unet)", or "model (vae of other)".
  [[nodiscard]] std::string where(std::string_view component) const;

  /// Whether the files hold this component.
  [[nodiscard]] bool has(std::string_view component) const { return parts_.components.contains(component); }

  /// The component's configuration in the form of config.json. Throws `Error` listing the components if it is absent.
  [[nodiscard]] nlohmann::json config(std::string_view component) const { return find(component).config; }

  /// The component's weights, none of them read yet. Throws `Error` listing the components if it is absent.
  [[nodiscard]] Weights weights(std::string_view component) const { return find(component).weights; }

  /// The tokenizer's files. Throws `Error` telling where they were looked for and how to name them.
  [[nodiscard]] TokenizerFiles tokenizer() const;

  /// What was found and chosen, one line a component.
  [[nodiscard]] std::string describe() const;

 private:
  /// The error for a lone UNet. \param lacking what was asked of it
  [[nodiscard]] SettingNeeded base_needed(std::string_view lacking) const;

  void add_base();
  void replace_vae();
  void apply_overrides();

  const detail::ModelComponent& find(std::string_view component) const;

  std::filesystem::path path_;
  Options options_;
  bool folder_ = false;
  detail::ModelParts parts_;
  std::shared_ptr<const ModelFiles> base_;  ///< Gave the components that the files lack.
};

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else they are linked
#include "ip2p/io/model_files_definitions.hpp"
#endif
