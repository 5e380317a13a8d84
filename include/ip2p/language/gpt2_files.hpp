#pragma once

/// \file
/// Reads and writes GPT-2 models as transformers' folders.

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/language/gpt2.hpp"
#include "ip2p/nn/state.hpp"

namespace ip2p {

namespace detail {

/// Whether transformers stores the tensor as [in, out], which it calls a Conv1D.
inline bool is_gpt2_conv1d(const std::string& name) {
  return name.ends_with(".c_attn.weight") || name.ends_with(".c_proj.weight") || name.ends_with(".c_fc.weight");
}

/// The tensors of a published file with the names and shapes of `Gpt2`: drops the prefix `transformer.`, the head
/// (which repeats the token embedding) and the mask buffers.
inline Weights gpt2_weights(const Weights& stored) {
  Weights weights;
  for (const auto& [stored_name, entry] : stored) {
    std::string name = stored_name;
    if (name.starts_with("transformer.")) name.erase(0, std::string_view("transformer.").size());
    if (name == "lm_head.weight" || name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")) continue;
    auto mine = entry;
    if (is_gpt2_conv1d(name) && entry.shape.size() == 2) {
      mine.shape = {entry.shape[1], entry.shape[0]};
      mine.read = [read = entry.read] { return read().t().contiguous(); };
    }
    require(weights.emplace(name, std::move(mine)).second,
            "tensor '{}': expected it once, found it with and without "
            "the prefix 'transformer.'",
            name);
  }
  return weights;
}

}  // namespace detail

/// Loads a folder with config.json and model.safetensors (whole or sharded), with or without the prefix `transformer`.
/// \param name of the folder, or on the Hugging Face Hub for a model in its cache  \param dtype of the weights
/// \throws Error for files that are missing, damaged, or from another architecture
inline Gpt2 load_gpt2(const std::filesystem::path& name, at::ScalarType dtype = at::kFloat) {
  const auto folder = detail::resolved_if_cached(name);
  require(std::filesystem::is_directory(folder), "{}: expected the folder of a GPT-2 model, found none",
          folder.string());
  const auto where = (folder / "config.json").string();
  Gpt2 model(Gpt2Config::from_json(detail::read_json_file(folder / "config.json"), where));
  const auto [stored, file] = detail::folder_weights(folder, "", {});
  load_weights(model.module(), detail::gpt2_weights(stored), file.string(), dtype);
  return model;
}

/// Writes config.json and model.safetensors as transformers does. \param dtype of the weights on disk
/// \throws Error on I/O failure
inline void save_gpt2(const Gpt2& model, const std::filesystem::path& folder, at::ScalarType dtype = at::kFloat) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  require(!code, "cannot make the folder '{}': {}", folder.string(), code.message());
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : state_of(model.module())) {
    const auto placed = (detail::is_gpt2_conv1d(name) ? tensor.t() : tensor).to(dtype).contiguous();
    weights.emplace("transformer." + name, placed);
  }
  write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}});
  const auto text = model.config().to_json().dump(2) + "\n";
  write_file_atomically(folder / "config.json", std::as_bytes(std::span(text)));
}

}  // namespace ip2p
