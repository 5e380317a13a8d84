#pragma once

/// \file
/// The methods to compare, by name. To add one, write a function that makes an `ip2p::EditMethod` and a row in
/// `methods()`, both in methods.cpp.

#include <cstdint>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/vision/clip.hpp"
#include "options.hpp"

namespace evaluate {

struct Model;

/// Models and settings shared by the methods.
struct Workshop {
  const Options& options;
  std::vector<Named> models;  ///< --model
  std::vector<Named> clips;   ///< --clip
  std::stop_token stop;
  std::map<std::string, std::shared_ptr<Model>> loaded = {};  ///< By path.
  std::map<std::string, ip2p::Clip> guides = {};              ///< By path.

  [[nodiscard]] ip2p::Numerics numerics() const;

  /// Of a run of so many steps.
  [[nodiscard]] ip2p::RunSettings settings(std::int64_t steps) const;

  /// The path of the "model" or "clip" with this name, or of the only one where the name is empty.
  [[nodiscard]] std::string path_of(const std::string& curve, const std::string& kind, const std::string& name) const;

  /// Settings that the model at that path recommends, as texts by name.
  [[nodiscard]] std::map<std::string, std::string> recommended(const std::string& path) const;

  /// The model at that path, loaded on first use.
  std::shared_ptr<Model> model(const std::string& path);

  /// The CLIP model at that path, in fp32.
  const ip2p::Clip& guide(const std::string& path);

  /// The editor at that path. \throws Error for a text-to-image model
  ip2p::Editor& editor(const std::string& path);

  /// The text-to-image model at that path. \throws Error for an editor
  ip2p::TextToImage& painter(const std::string& path);
};

/// A row of the table of methods.
struct MethodKind {
  std::string_view name;
  /// Every setting that it reads, with its default; "model" names a --model,
  /// "clip" a --clip.
  std::map<std::string, std::string> defaults;
  ip2p::EditMethod (*make)(Workshop&);
};

/// Text2LIVE: a layer over the photograph, trained on it from the caption to the edited caption.
ip2p::EditMethod text2live(Workshop& shop);

/// The method of that name. \throws Error that lists the known ones
const MethodKind& method_named(const std::string& name);

}  // namespace evaluate
