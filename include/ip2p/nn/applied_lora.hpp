#pragma once

/// \file
/// A LoRA that has been applied to models: its scale, its tensors, and its removal.

#include <ATen/ops/scalar_tensor.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/io/lora_keys.hpp"
#include "ip2p/nn/lora.hpp"

namespace ip2p {

/// A handle to a LoRA applied to one or more models. Copies refer to the same LoRA, which stays applied when the last
/// copy is destroyed. Do not change it while a model is being evaluated.
class AppliedLora {
 public:
  /// One adapter: the layer's name including its component ("unet.down_blocks.0....to_q"), the layer, and the tensors.
  struct Adapter {
    std::string name;
    std::weak_ptr<LoraHost> host;    ///< The changed layer; expires with its model.
    std::shared_ptr<LoraPath> path;  ///< What is added to the layer's output.
  };

  /// Made by `apply_lora` and `new_lora`. \param scale shared by all adapters
  AppliedLora(std::shared_ptr<double> scale, std::vector<Adapter> adapters, std::vector<std::string> unmatched)
      : scale_(std::move(scale)), adapters_(std::move(adapters)), unmatched_(std::move(unmatched)) {}

  /// Factor of the whole change.
  [[nodiscard]] double scale() const { return *scale_; }

  /// Sets the scale from the next evaluation on; 0 switches the LoRA off without removing it.
  /// \throws Error unless `scale` is finite
  void set_scale(double scale) {
    require(std::isfinite(scale), "LoRA: scale: expected a finite number, found {}", scale);
    *scale_ = scale;
    note_model_change();
  }

  /// Removes the LoRA from its models, whose results are then bit-identical to before. A second call does nothing.
  void remove() {
    for (const auto& adapter : adapters_) {
      if (const auto host = adapter.host.lock()) std::erase(host->loras, adapter.path);
    }
    note_model_change();
  }

  /// Number of changed layers; each block of a fused projection counts separately.
  [[nodiscard]] std::size_t layers() const { return adapters_.size(); }

  /// Names of the file's tensors that match no layer of the models.
  [[nodiscard]] const std::vector<std::string>& unmatched() const { return unmatched_; }

  /// The tensors in use, in the model's compute dtype, as "<layer>.lora_down.weight" and "<layer>.lora_up.weight". They
  /// are leaves. To train the LoRA, enable their gradients and disable those of the model's own weights; the model must
  /// have been loaded with `LoadOptions::inference` false.
  [[nodiscard]] std::map<std::string, at::Tensor> tensors() const {
    std::map<std::string, at::Tensor> named;
    for (const auto& adapter : adapters_) {
      named.emplace(adapter.name + ".lora_down.weight", adapter.path->down);
      named.emplace(adapter.name + ".lora_up.weight", adapter.path->up);
    }
    return named;
  }

  /// The LoRA's tensors, named and scaled as in kohya's scripts, ready for `write_safetensors`. Excludes `scale()`.
  [[nodiscard]] std::map<std::string, at::Tensor> state() const {
    std::map<std::string, at::Tensor> named;
    for (const auto& adapter : adapters_) {
      auto base = "lora_" + detail::replace_all(adapter.name, ".", "_");
      detail::replace_start(base, "lora_text_encoder_", "lora_te_");
      const auto& path = *adapter.path;
      named.emplace(base + ".lora_down.weight", path.down.detach());
      named.emplace(base + ".lora_up.weight", path.up.detach());
      named.emplace(base + ".alpha", at::scalar_tensor(path.strength * static_cast<double>(path.down.size(0))));
    }
    return named;
  }

 private:
  std::shared_ptr<double> scale_;
  std::vector<Adapter> adapters_;
  std::vector<std::string> unmatched_;
};

}  // namespace ip2p
