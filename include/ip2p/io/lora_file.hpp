#pragma once

/// \file
/// LoRA files (Hu et al. 2021): low-rank changes to the layers of a UNet and a text encoder.

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/io/json_field.hpp"
#include "ip2p/io/lora_keys.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// One adapter of a file: y += scale * strength * up(mid(down(x))).
struct LoraLayer {
  std::string component;             ///< "unet" or "text_encoder".
  std::string name;                  ///< The layer's name in the file.
  std::string module;                ///< The layer's name in the form that io/lora_keys.hpp uses.
  std::int64_t rank = 0;             ///< >= 1.
  double strength = 1;               ///< alpha / rank; alpha defaults to the rank if the file gives none.
  WeightEntry down;                  ///< [rank, in] or [rank, in, k, k]
  WeightEntry up;                    ///< [out, rank] or [out, rank, 1, 1]
  std::optional<WeightEntry> mid;    ///< LyCORIS: [rank, rank, k, k] between a 1x1 `down` and `up`.
  std::string down_name, up_name;    ///< Names of the tensors, for messages.
  std::vector<std::string> tensors;  ///< Names of all tensors of this adapter.
};

/// A LoRA file whose tensors have been paired up and whose shapes are consistent. Large tensors are not read yet.
///
/// Formats: kohya's scripts (`lora_unet_..._to_q.lora_down.weight`, with diffusers' or LDM's block names), LyCORIS's
/// LoCon with `lora_mid`, PEFT (`unet....to_q.lora_A.weight`, also with the adapter's name before `weight`), ComfyUI
/// (`diffusion_model....`), OneTrainer (`lora_unet....` with dots), and older diffusers
/// (`...processor.to_q_lora.down.weight`, `....lora_linear_layer.down.weight`). A regular value type.
class LoraFile {
 public:
  /// Opens a safetensors file or a pickle of PyTorch. \throws Error as `from` and `open_weight_file` do
  static LoraFile open(const std::filesystem::path& path) {
    const auto file = open_weight_file(path, {.check_finite = true});
    return from(file.weights, path.string(), file.metadata);
  }

  /// The adapters in `weights`. \param where named in errors  \param metadata the `__metadata__` of a safetensors file
  /// \throws Error, naming the tensor, if its partner is missing, shapes or ranks are inconsistent, an alpha is not
  ///   finite, or it belongs to another kind of adapter (DoRA, LoHa, LoKr, ...); also if there is no LoRA at all
  static LoraFile from(const Weights& weights, const std::string& where,
                       const std::map<std::string, std::string>& metadata = {});

  /// The file's path, or the `where` given to `from`.
  [[nodiscard]] const std::string& where() const { return where_; }

  /// All adapters, sorted by component and layer name.
  [[nodiscard]] const std::vector<LoraLayer>& layers() const { return layers_; }

  /// Names of tensors that are not part of any known LoRA format.
  [[nodiscard]] const std::vector<std::string>& unrecognised() const { return unrecognised_; }

  /// A copy with the adapters of one component ("unet" or "text_encoder") only. Keeps the list of unrecognised tensors.
  [[nodiscard]] LoraFile part(const std::string& component) const {
    auto result = *this;
    std::erase_if(result.layers_, [&](const LoraLayer& layer) { return layer.component != component; });
    return result;
  }

 private:
  struct Parts {
    LoraLayer layer;
    std::optional<WeightEntry> down, up, alpha;
    std::string alpha_name, mid_name;
  };

  static void check_shapes(Parts& parts, const std::string& where);
  static double alpha_of(const Parts& parts, const nlohmann::json& settings, const std::string& where);

  std::string where_;
  std::vector<LoraLayer> layers_;
  std::vector<std::string> unrecognised_;
};

inline void LoraFile::check_shapes(Parts& parts, const std::string& where) {
  auto& layer = parts.layer;
  require(parts.down.has_value(),
          "{}: layer '{}': expected a tensor 'down' (lora_down, lora_A) beside '{}', found none", where,
          detail::printable(layer.name), detail::printable(layer.tensors.front()));
  require(parts.up.has_value(), "{}: layer '{}': expected a tensor 'up' (lora_up, lora_B) beside '{}', found none",
          where, detail::printable(layer.name), detail::printable(layer.tensors.front()));
  const auto check = [&](const WeightEntry& entry, const std::string& name, bool fits, const std::string& expected) {
    require(at::isFloatingType(entry.dtype), "{}: tensor '{}': expected floating-point numbers, found {}", where,
            detail::printable(name), at::toString(entry.dtype));
    require(fits, "{}: tensor '{}': expected {}, found {}", where, detail::printable(name), expected,
            shape_text(entry.shape));
  };
  layer.down = *parts.down;
  layer.up = *parts.up;
  const auto& down = layer.down.shape;
  const auto& up = layer.up.shape;
  const auto positive = [](const std::vector<std::int64_t>& shape) {
    return std::all_of(shape.begin(), shape.end(), [](std::int64_t size) { return size > 0; });
  };
  check(layer.down, layer.down_name, positive(down) && (down.size() == 2 || (down.size() == 4 && down[2] == down[3])),
        "[rank, in] or [rank, in, k, k]");
  layer.rank = down[0];
  check(layer.up, layer.up_name,
        positive(up) && (up.size() == 2 || (up.size() == 4 && up[2] == 1 && up[3] == 1)) && up[1] == layer.rank,
        fmt::format("[out, {0}] or [out, {0}, 1, 1], for the rank {0} of '{1}'", layer.rank,
                    detail::printable(layer.down_name)));
  if (!layer.mid) return;
  const auto& mid = layer.mid->shape;
  check(*layer.mid, parts.mid_name,
        positive(mid) && mid.size() == 4 && mid[0] == layer.rank && mid[1] == layer.rank && mid[2] == mid[3],
        fmt::format("[{0}, {0}, k, k], for the rank {0} of '{1}'", layer.rank, detail::printable(layer.down_name)));
  check(layer.down, layer.down_name, down.size() == 2 || down[2] == 1,
        fmt::format("[{}, in, 1, 1] beside '{}'", layer.rank, detail::printable(parts.mid_name)));
}

/// \param settings PEFT's configuration as diffusers stores it in the metadata, with the component before each key
inline double LoraFile::alpha_of(const Parts& parts, const nlohmann::json& settings, const std::string& where) {
  const auto rank = static_cast<double>(parts.layer.rank);
  if (parts.alpha) {
    const auto& shape = parts.alpha->shape;
    require(shape.empty() || shape == std::vector<std::int64_t>{1}, "{}: tensor '{}': expected one number, found {}",
            where, detail::printable(parts.alpha_name), shape_text(shape));
    const auto alpha = parts.alpha->read().to(at::kDouble).item<double>();
    require(std::isfinite(alpha), "{}: tensor '{}': expected a finite number, found {}", where,
            detail::printable(parts.alpha_name), alpha);
    return alpha;
  }
  try {
    const auto prefix = parts.layer.component + ".";
    double alpha = settings.value(prefix + "lora_alpha", rank);
    if (const auto pattern = settings.find(prefix + "alpha_pattern"); pattern != settings.end()) {
      for (const auto& [layer, value] : pattern->items()) {
        const auto name = detail::replace_all(layer, ".", "_");
        if (parts.layer.module == name || parts.layer.module.ends_with("_" + name)) alpha = value.get<double>();
      }
    }
    // Rank-stabilised LoRA divides by the square root of the rank.
    return settings.value(prefix + "use_rslora", false) ? alpha * std::sqrt(rank) : alpha;
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: metadata lora_adapter_metadata: expected PEFT's configuration, found {}", where,
                detail::json_fault(error));
  }
}

inline LoraFile LoraFile::from(const Weights& weights, const std::string& where,
                               const std::map<std::string, std::string>& metadata) {
  LoraFile result;
  result.where_ = where;
  std::map<std::pair<std::string, std::string>, Parts> adapters;
  std::optional<std::string> adapter_name;
  for (const auto& [name, entry] : weights) {
    const auto kind = detail::foreign_adapter(name);
    require(kind.empty(), "{}: tensor '{}': expected a LoRA (down, up and alpha), found {}, which is not supported",
            where, detail::printable(name), kind);
    const auto key = detail::parse_lora_key(name);
    if (!key) {
      result.unrecognised_.push_back(name);
      continue;
    }
    if (key->part == LoraPart::down || key->part == LoraPart::up) {
      if (!adapter_name) adapter_name = key->adapter;
      require(*adapter_name == key->adapter, "{}: expected one adapter in the file, found '{}' and '{}'", where,
              detail::printable(*adapter_name), detail::printable(key->adapter));
    }
    auto& parts = adapters[{key->component, key->module}];
    auto& layer = parts.layer;
    require(layer.tensors.empty() || layer.name == key->base,
            "{}: tensor '{}': expected one adapter per layer, found '{}' for the same", where, detail::printable(name),
            detail::printable(layer.tensors.empty() ? name : layer.tensors.front()));
    layer.component = key->component;
    layer.name = key->base;
    layer.module = key->module;
    layer.tensors.push_back(name);
    switch (key->part) {
      case LoraPart::down:
        parts.down = entry;
        layer.down_name = name;
        break;
      case LoraPart::up:
        parts.up = entry;
        layer.up_name = name;
        break;
      case LoraPart::mid:
        layer.mid = entry;
        parts.mid_name = name;
        break;
      case LoraPart::alpha:
        parts.alpha = entry;
        parts.alpha_name = name;
        break;
    }
  }
  require(!adapters.empty(),
          "{}: contains no LoRA: expected tensors such as 'lora_unet_..._to_q.lora_down.weight' or "
          "'unet....to_q.lora_A.weight', found {}",
          where, weights.empty() ? "none" : "'" + detail::printable(weights.begin()->first) + "'");

  auto settings = nlohmann::json::object();
  if (const auto stored = metadata.find("lora_adapter_metadata"); stored != metadata.end()) {
    settings = detail::json_or_discarded(stored->second);
    require(settings.is_object(), "{}: metadata lora_adapter_metadata: expected a JSON object, found something else",
            where);
  }
  for (auto& [key, parts] : adapters) {
    check_shapes(parts, where);
    parts.layer.strength = alpha_of(parts, settings, where) / static_cast<double>(parts.layer.rank);
    result.layers_.push_back(std::move(parts.layer));
  }
  return result;
}

}  // namespace ip2p
