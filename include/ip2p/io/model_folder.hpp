#pragma once

/// \file
/// Reads one component of a diffusers model folder: its JSON files and its weights, whether one file, a variant or
/// shards.

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// The JSON object in `path`. Throws `Error` if it cannot be read, is larger than 64 MiB, or is not a JSON object.
inline nlohmann::json read_json_file(const std::filesystem::path& path) {
  std::error_code code;
  const auto bytes = std::filesystem::file_size(path, code);
  require(!code, "cannot read '{}': {}", path.string(), code.message());
  require(bytes <= (std::uintmax_t{64} << 20),
          "cannot read '{}': expected a JSON file of at most 64 MiB, found {} bytes", path.string(), bytes);
  const auto text = file_text(path).value_or("");
  require(text.size() == bytes, "cannot read '{}': expected {} bytes, got {}", path.string(), bytes, text.size());
  const auto kind = foreign_file_kind(text);
  require(kind.empty(), "{}: expected a JSON file, found {}", path.string(), kind);
  try {
    auto json = parse_json(text);
    require(json.is_object(), "{}: expected a JSON object, found {}", path.string(), json.type_name());
    return json;
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: is not valid JSON: found {}", path.string(), json_fault(error));
  }
}

/// The string under `key`, or `otherwise` if it is missing or not a string.
inline std::string text_at(const nlohmann::json& json, const char* key, std::string otherwise = {}) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::move(otherwise);
}

/// Names of the files and folders in `folder`, sorted; empty if it cannot be listed.
inline std::vector<std::string> listing(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Formats up to `limit` names as "'a', 'b', ...", or "nothing" if there are none.
inline std::string name_list(const std::vector<std::string>& names, std::size_t limit = 8) {
  if (names.empty()) return "nothing";
  std::vector<std::string> shown;
  for (std::size_t i = 0; i < std::min(limit, names.size()); ++i) shown.push_back(printable(names[i]));
  return fmt::format("'{}'{}", fmt::join(shown, "', '"), names.size() > limit ? ", ..." : "");
}

/// Throws `Error` for a shard name that could point outside the model's folder. An index file is untrusted input.
inline void require_plain_file_name(const std::string& name, const std::filesystem::path& index) {
  const std::filesystem::path path(name);
  bool inside = !name.empty() && !path.is_absolute() && name.find('\0') == std::string::npos &&
                name.find('\\') == std::string::npos;
  for (const auto& part : path) inside = inside && part != "..";
  require(inside, "{}: refuses the shard '{}': expected the name of a file in the same folder, without '..' or a root",
          index.string(), printable(name));
}

/// All tensors listed in a `*.safetensors.index.json` or `*.bin.index.json`. Throws `Error` for a shard that is missing
/// or outside the folder, and for a tensor that its shard does not contain.
inline Weights sharded_weights(const std::filesystem::path& index, const SafetensorsOptions& options) {
  const auto json = read_json_file(index);
  const auto map = json.find("weight_map");
  require(map != json.end() && map->is_object() && !map->empty(), "{}: expected a non-empty object 'weight_map'",
          index.string());
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : map->items()) {
    require(shard.is_string(), "{}: the shard of tensor '{}' must be a string, found {}", index.string(), tensor,
            shard.type_name());
    const auto name = shard.template get<std::string>();
    require_plain_file_name(name, index);
    shards[name].push_back(tensor);
  }
  std::vector<std::string> missing;
  for (const auto& [name, tensors] : shards) {
    if (!std::filesystem::exists(index.parent_path() / name)) missing.push_back(name);
  }
  require(missing.empty(), "{}: {} of {} shards are missing: {}", index.string(), missing.size(), shards.size(),
          name_list(missing));
  Weights weights;
  for (const auto& [name, tensors] : shards) {
    const auto file = index.parent_path() / name;
    const auto stored = open_weight_file(file, options).weights;
    for (const auto& tensor : tensors) {
      const auto found = stored.find(tensor);
      if (found == stored.end()) {
        std::vector<std::string> present;
        for (const auto& [other, entry] : stored) present.push_back(other);
        throw_error("{}: has no tensor '{}'{}", file.string(), printable(tensor),
                    nearest_names_clause(tensor, present));
      }
      weights.insert(*found);
    }
  }
  return weights;
}

/// The weights in a component's folder, and the file that they come from.
///
/// Looks for `diffusion_pytorch_model` or `model`, as `.safetensors` or sharded with `.safetensors.index.json`, and
/// then for the pickles `diffusion_pytorch_model` or `pytorch_model`, as `.bin` or sharded with `.bin.index.json`. With
/// `variant` "fp16" it accepts `*.fp16.safetensors` and `*.fp16.bin` only. Without a variant it takes the plain files
/// or, failing those, the only variant present. If nothing fits, throws `Error` listing what is there.
inline std::pair<Weights, std::filesystem::path> folder_weights(const std::filesystem::path& folder,
                                                                const std::string& variant,
                                                                const SafetensorsOptions& options) {
  const auto names = listing(folder);
  const auto has = [&](const std::string& name) { return std::binary_search(names.begin(), names.end(), name); };
  const std::array<std::pair<std::string, std::string>, 4> layouts{{{"diffusion_pytorch_model", ".safetensors"},
                                                                    {"model", ".safetensors"},
                                                                    {"diffusion_pytorch_model", ".bin"},
                                                                    {"pytorch_model", ".bin"}}};
  const auto find = [&](const std::string& kind) -> std::string {
    const auto infix = kind.empty() ? std::string() : "." + kind;
    for (const auto& [base, format] : layouts) {
      for (const auto& name :
           {base + infix + format, base + format + ".index" + infix + ".json", base + infix + format + ".index.json"}) {
        if (has(name)) return name;
      }
    }
    return {};
  };
  std::string chosen = find(variant);
  if (chosen.empty() && variant.empty()) {
    std::set<std::string> variants;
    for (const auto& name : names) {
      for (const auto& [base, format] : layouts) {
        const std::string_view view(name);
        const auto start = base + ".";
        if (!view.starts_with(start) || !view.ends_with(format) || view.size() < start.size() + format.size()) continue;
        const auto middle = view.substr(start.size(), view.size() - start.size() - format.size());
        if (!middle.empty() && middle.find('.') == std::string_view::npos) variants.emplace(middle);
      }
    }
    if (variants.size() == 1) chosen = find(*variants.begin());
    if (variants.size() > 1) {
      throw SettingNeeded(fmt::format("{}: holds the variants {} and no plain weights", folder.string(),
                                      name_list({variants.begin(), variants.end()})),
                          "variant", "to choose one");
    }
  }
  if (chosen.empty()) {
    const auto infix = variant.empty() ? std::string() : "." + variant;
    throw_error(
        "{}: has no {}weights; expected 'diffusion_pytorch_model{}.safetensors' or 'model{}.safetensors', or "
        "'diffusion_pytorch_model{}.bin' or 'pytorch_model{}.bin', found {}",
        folder.string(), variant.empty() ? "" : variant + " ", infix, infix, infix, infix, name_list(names));
  }
  const auto path = folder / chosen;
  if (chosen.ends_with(".json")) return {sharded_weights(path, options), path};
  return {open_weight_file(path, options).weights, path};
}

}  // namespace ip2p::detail
