#pragma once

/// \file
/// Trained models as folders that `ModelFiles` and diffusers open.

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/nn/state.hpp"

namespace ip2p {

/// Writes `json` with an indentation of two blanks, atomically.
inline void write_json(const std::filesystem::path& path, const nlohmann::json& json) {
  const auto text = json.dump(2) + "\n";
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// Writes one model as `folder/<component>/{config.json, weights}` under the names of the published files.
///
/// \param model `UNet`, `KlAutoencoder`, `ClipTextModel` or another handle with `component`, `config()` and `module()`
/// \param dtype of the weights on disk; fp16 and bf16 halve the size
/// \throws Error on I/O failure, and when a weight does not fit the range of `dtype`
template <class Model>
void save_component(const Model& model, const std::filesystem::path& folder, at::ScalarType dtype = at::kHalf) {
  const std::string component = Model::component;
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : state_of(model.module())) {
    const auto converted = tensor.to(dtype).contiguous();
    require(converted.to(at::kFloat).isfinite().all().template item<bool>(),
            "{}: tensor '{}': expected values that {} can hold", component, name, at::toString(dtype));
    weights.emplace(name, converted);
  }
  std::filesystem::create_directories(folder / component);
  const bool text = component == "text_encoder";
  write_safetensors(folder / component / (text ? "model.safetensors" : "diffusion_pytorch_model.safetensors"), weights,
                    {{"format", "pt"}});
  write_json(folder / component / "config.json", model.config().to_json());
}

}  // namespace ip2p
