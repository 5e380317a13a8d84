#pragma once

/// \file
/// Which files of a model's repository are needed to run it. Repositories also hold copies in other formats and
/// precisions, which are often several times as large.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/hub_cache.hpp"

namespace ip2p {

/// What of a model is wanted.
struct HubFilesOptions {
  std::string variant =
      {};  ///< Weights in `*.VARIANT.safetensors`, "fp16" say; empty: plain ones, or the only variant.
  /// Of a diffusers folder: any of "unet", "vae", "text_encoder", "tokenizer" and "scheduler"; empty: all of them. A
  /// repository of a single component or of a CLIP counts as one, but its tokenizer can be left out or asked for alone.
  std::set<std::string> components = {};
};

/// The result of `needed_hub_files`.
struct HubFiles {
  std::vector<std::string> files = {};  ///< Paths in the repository.
  std::string lacking = {};             ///< What a model would need and the repository has not; empty: nothing.
};

namespace detail {

/// The files of a repository below a folder.
struct HubListing {
  const std::set<std::string>& names;
  std::string folder;  ///< with a slash at its end, or empty

  [[nodiscard]] bool has(std::string_view name) const { return names.contains(folder + std::string(name)); }
  [[nodiscard]] HubListing below(std::string_view name) const { return {names, folder + std::string(name) + "/"}; }
};

inline bool is_shard_number(std::string_view text) {  // -00001-of-00002
  const auto middle = text.find("-of-");
  const auto digits = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return text.starts_with('-') && middle != std::string_view::npos && middle >= 1 &&
         digits(text.substr(1, middle - 1)) && digits(text.substr(middle + 4));
}

/// The shards beside an index. diffusers has put the variant's name on either side of the number.
inline std::vector<std::string> shards_of(const HubListing& listing, const std::string& base, const std::string& infix,
                                          const std::string& ending) {
  std::vector<std::string> shards;
  for (auto name = listing.names.lower_bound(listing.folder + base);
       name != listing.names.end() && name->starts_with(listing.folder + base); ++name) {
    auto rest = std::string_view(*name).substr(listing.folder.size() + base.size());
    if (!rest.ends_with(ending)) continue;
    rest.remove_suffix(ending.size());
    const bool before = rest.starts_with(infix) && is_shard_number(rest.substr(infix.size()));
    const bool after = rest.ends_with(infix) && is_shard_number(rest.substr(0, rest.size() - infix.size()));
    if (before || after) shards.push_back(*name);
  }
  return shards;
}

/// The weights of one component, under the names and in the order in which `folder_weights` looks for them; empty where
/// there are none. \param pickled PyTorch's pickles, instead of safetensors
inline std::vector<std::string> weights_in(const HubListing& listing, const std::string& variant, bool pickled,
                                           std::string& lacking) {
  const auto infix = variant.empty() ? std::string() : "." + variant;
  const auto find = [&](const std::string& base, const std::string& ending) -> std::optional<std::vector<std::string>> {
    if (const auto name = base + infix + ending; listing.has(name)) return {{listing.folder + name}};
    for (const auto& index : {base + ending + ".index" + infix + ".json", base + infix + ending + ".index.json"}) {
      if (!listing.has(index)) continue;
      auto files = shards_of(listing, base, infix, ending);
      std::size_t count = 0;
      if (!files.empty()) {
        const auto number = std::string_view(files.front()).substr(files.front().find("-of-") + 4);
        for (const char c : number.substr(0, number.find_first_not_of("0123456789"))) {
          count = std::min<std::size_t>(count * 10 + static_cast<std::size_t>(c - '0'), 1000000);
        }
      }
      if (files.empty() || files.size() != count) {
        lacking = fmt::format("shards of '{}{}' ({} of {} are there)", listing.folder, index, files.size(), count);
      }
      files.push_back(listing.folder + index);
      return files;
    }
    return std::nullopt;
  };
  for (const char* base : {"diffusion_pytorch_model", pickled ? "pytorch_model" : "model"}) {
    if (auto files = find(base, pickled ? ".bin" : ".safetensors")) return *std::move(files);
  }
  return {};
}

/// The variants of which a component has weights: the `fp16` of `model.fp16.safetensors`.
inline std::set<std::string> variants_in(const HubListing& listing) {
  std::set<std::string> variants;
  for (auto name = listing.names.lower_bound(listing.folder);
       name != listing.names.end() && name->starts_with(listing.folder); ++name) {
    for (const std::string_view base : {"diffusion_pytorch_model.", "model."}) {
      auto rest = std::string_view(*name).substr(listing.folder.size());
      if (!rest.starts_with(base) || !rest.ends_with(".safetensors")) continue;
      rest.remove_prefix(base.size());
      const auto variant = rest.substr(0, rest.find('.'));
      if (variant != "safetensors" && rest.size() == variant.size() + std::string_view(".safetensors").size()) {
        variants.emplace(variant);
      }
    }
  }
  return variants;
}

/// A component's weights in the variant asked for; if none is, plain ones or those of the only variant; pickles where
/// there are no others.
inline void add_weights(HubFiles& found, const HubListing& listing, const std::string& variant) {
  std::string lacking;
  auto files = weights_in(listing, variant, false, lacking);
  const auto variants = variants_in(listing);
  if (files.empty() && variant.empty() && variants.size() == 1) {
    files = weights_in(listing, *variants.begin(), false, lacking);
  }
  if (files.empty()) files = weights_in(listing, variant, true, lacking);
  if (files.empty()) {
    const auto place = listing.folder.empty() ? std::string() : fmt::format(" in '{}'", listing.folder);
    lacking = fmt::format("{}weights{}", variant.empty() ? "" : variant + " ", place);
    std::string ignored;
    if (!variant.empty() && !weights_in(listing, "", false, ignored).empty()) lacking += ", where only plain ones are";
    if (variant.empty() && variants.size() > 1) {
      lacking += fmt::format(", where the variants {} are: choose one", with_commas(variants));
    }
  }
  if (found.lacking.empty()) found.lacking = lacking;
  found.files.insert(found.files.end(), files.begin(), files.end());
}

inline bool add_if_there(HubFiles& found, const HubListing& listing, std::string_view name) {
  if (!listing.has(name)) return false;
  found.files.push_back(listing.folder + std::string(name));
  return true;
}

/// A tokenizer's files. \return whether they suffice
inline bool add_tokenizer(HubFiles& found, const HubListing& listing) {
  const bool vocabulary = add_if_there(found, listing, "vocab.json");
  const bool apart = add_if_there(found, listing, "merges.txt") && vocabulary;
  const bool whole = add_if_there(found, listing, "tokenizer.json");
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    add_if_there(found, listing, name);
  }
  return apart || whole;
}

/// The components that a diffusers folder must have to be whole.
inline constexpr const char* hub_components[] = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"};

inline HubFiles diffusers_files(const HubListing& listing, const HubFilesOptions& options,
                                const std::set<std::string>& must_have) {
  HubFiles found;
  add_if_there(found, listing, "model_index.json");
  for (const std::string name : hub_components) {
    if (!options.components.empty() && !options.components.contains(name)) continue;
    const auto inside = listing.below(name);
    bool there = false;
    if (name == "tokenizer") {
      there = add_tokenizer(found, inside);
    } else if (name == "scheduler") {
      there = add_if_there(found, inside, "scheduler_config.json");
    } else if (inside.has("config.json")) {
      there = add_if_there(found, inside, "config.json");
      add_weights(found, inside, options.variant);
    }
    const bool asked_for = options.components.contains(name) || must_have.contains(name);
    if (!there && asked_for && found.lacking.empty()) found.lacking = fmt::format("the folder '{}'", name);
  }
  return found;
}

}  // namespace detail

/// The files of a repository that a model needs: its configurations, its tokenizer's files, and its weights in one
/// precision, as safetensors where there are such.
/// \param names of all files in the repository  \param part the `HubName::part` of what is wanted
/// \param must_have components that a diffusers folder lacks if the names do not show them
inline HubFiles needed_hub_files(const std::set<std::string>& names, const std::string& part,
                                 const HubFilesOptions& options = {}, const std::set<std::string>& must_have = {}) {
  using detail::HubListing;
  HubFiles found;
  if (names.contains(part)) {
    found.files.push_back(part);
    const auto slash = part.rfind('/') + 1;             // 0 if there is none
    if (part.substr(slash).starts_with("open_clip")) {  // its configuration and tokenizer lie beside it
      const HubListing beside{names, part.substr(0, slash)};
      detail::add_if_there(found, beside, "open_clip_config.json");
      detail::add_tokenizer(found, beside);
    }
    return found;
  }
  const HubListing listing{names, part.empty() ? "" : part + "/"};
  const bool only_tokenizer = options.components == std::set<std::string>{"tokenizer"};
  bool folders = listing.has("model_index.json");
  for (const char* name : {"unet", "vae", "text_encoder"}) folders = folders || listing.below(name).has("config.json");
  if (only_tokenizer) {
    if (!detail::add_tokenizer(found, listing.below("tokenizer"))) {
      found = {};
      if (!detail::add_tokenizer(found, listing)) found.lacking = "the files of a tokenizer";
    }
    return found;
  }
  if (folders) return detail::diffusers_files(listing, options, must_have);
  if (listing.has("config.json")) {
    detail::add_if_there(found, listing, "config.json");
    detail::add_weights(found, listing, options.variant);
    const bool tokenizer = options.components.empty() || options.components.contains("tokenizer");
    if (tokenizer && !detail::add_tokenizer(found, listing) && must_have.contains("tokenizer") &&
        found.lacking.empty()) {
      found.lacking = "the files of a tokenizer";
    }
    return found;
  }
  if (listing.has("taesd_encoder.safetensors") && listing.has("taesd_decoder.safetensors")) {
    found.files = {listing.folder + "taesd_encoder.safetensors", listing.folder + "taesd_decoder.safetensors"};
    return found;
  }
  std::vector<std::string> singles;
  for (const auto& name : names) {
    if (!name.starts_with(listing.folder)) continue;
    for (const std::string_view ending : {".safetensors", ".ckpt"}) {
      if (name.ends_with(ending)) singles.push_back(name);
    }
  }
  found.lacking = "model_index.json and config.json";
  if (!singles.empty()) {
    found.lacking +=
        fmt::format("; of its single files, name one after the model's name, as in '/{}'", singles.front());
  }
  return found;
}

}  // namespace ip2p
