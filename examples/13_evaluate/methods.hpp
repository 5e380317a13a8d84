#pragma once

/// \file
/// The methods to compare, by name. To add one, write a function that makes an `ip2p::EditMethod`, in a file of its own
/// if it includes much, and a row in `methods()` of methods.cpp.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/vision/clip.hpp"
#include "options.hpp"

namespace evaluate {

/// A model of the configuration: an editor or a text-to-image model, whichever its files hold.
struct Model {
  ip2p::OpenedModel opened;
  std::optional<ip2p::Editor> editor;
  std::optional<ip2p::TextToImage> painter;

  explicit Model(ip2p::OpenedModel model);
};

/// Models and settings shared by the methods.
struct Workshop {
  const Options& options;
  std::map<std::string, example::ModelOptions> models;  ///< --model and its parts, by name.
  std::vector<Named> clips;                             ///< --clip
  std::stop_token stop;
  std::map<std::string, Named> found = {};                    ///< Models and CLIPs of the curves, by digest.
  std::map<std::string, std::shared_ptr<Model>> loaded = {};  ///< By digest.
  std::map<std::string, ip2p::Clip> guides = {};              ///< By digest.

  [[nodiscard]] ip2p::Numerics numerics() const;

  /// Of a run of so many steps.
  [[nodiscard]] ip2p::RunSettings settings(std::int64_t steps) const;

  /// The digest of the "model" or "clip" with this name, or of the only one where the name is empty. It stands for the
  /// model, with what is added to it, in a point's settings, so that the same model in another place is the same.
  std::string digest_of(const std::string& curve, const std::string& kind, const std::string& name);

  /// Settings that the model with that digest recommends, as texts by name.
  [[nodiscard]] std::map<std::string, std::string> recommended(const std::string& digest) const;

  /// The model with that digest, loaded on first use.
  std::shared_ptr<Model> model(const std::string& digest);

  /// The CLIP model with that digest, in fp32.
  const ip2p::Clip& guide(const std::string& digest);

  /// The editor with that digest. \throws Error for a text-to-image model
  ip2p::Editor& editor(const std::string& digest);

  /// The text-to-image model with that digest. \throws Error for an editor
  ip2p::TextToImage& painter(const std::string& digest);

  /// Loads the model of a point. \throws Error for one of another kind than its method needs
  void require_kind(const ip2p::SweepPoint& point);
};

/// A row of the table of methods.
struct MethodKind {
  std::string_view name;
  /// Every setting that it reads, with its default; "model" names a --model,
  /// "clip" a --clip.
  std::map<std::string, std::string> defaults;
  ip2p::EditMethod (*make)(Workshop&);
};

/// Latents [1,C,h,w] to a picture that is not clamped, as the released evaluation measures it.
template <class Pipeline>
at::Tensor decoded(const Pipeline& pipeline, const at::Tensor& latents) {
  return pipeline.decode_to_tensor(latents).to(at::kCPU, at::kFloat);
}

/// Prompt-to-Prompt from the caption to the edited caption, on the photograph's DDIM inversion.
ip2p::EditMethod prompt_to_prompt(Workshop& shop);

/// The method of that name. \throws Error that lists the known ones
const MethodKind& method_named(const std::string& name);

}  // namespace evaluate
