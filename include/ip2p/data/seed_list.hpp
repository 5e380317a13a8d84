#pragma once

/// \file
/// The index of a published training set: which pairs each prompt has.

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

/// A prompt's folder and the seeds of its pairs.
struct PromptSeeds {
  std::string prompt;
  std::vector<std::string> seeds;

  friend bool operator==(const PromptSeeds&, const PromptSeeds&) = default;
};

namespace detail {

/// Whether a name is safe in paths and tar entries: letters, digits and '-', at most 40.
inline bool is_pair_name(std::string_view name) {
  return !name.empty() && name.size() <= 40 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  });
}

/// Sorts prompts by name and seeds as text, as the generator of the set does. \throws Error for duplicates
inline void sort_prompts(std::vector<PromptSeeds>& prompts, const std::string& where) {
  for (auto& entry : prompts) {
    std::sort(entry.seeds.begin(), entry.seeds.end());
    const auto twice = std::adjacent_find(entry.seeds.begin(), entry.seeds.end());
    require(twice == entry.seeds.end(), "{}: expected each seed of prompt '{}' once, found another '{}'", where,
            entry.prompt, twice == entry.seeds.end() ? "" : *twice);
  }
  std::sort(prompts.begin(), prompts.end(), [](const auto& a, const auto& b) { return a.prompt < b.prompt; });
  const auto twice = std::adjacent_find(prompts.begin(), prompts.end(),
                                        [](const auto& a, const auto& b) { return a.prompt == b.prompt; });
  require(twice == prompts.end(), "{}: expected each prompt once, found another '{}'", where,
          twice == prompts.end() ? "" : twice->prompt);
}

/// Reads seeds.json: [["0000000", ["seed", ...]], ...], seeds as texts or numbers.
inline std::vector<PromptSeeds> read_seed_list(const std::filesystem::path& path) {
  const auto where = path.string();
  const auto text = file_text(path);
  require(text.has_value(), "cannot open '{}'", where);
  std::vector<PromptSeeds> prompts;
  try {
    const auto json = nlohmann::json::parse(*text);
    require(json.is_array(), R"({}: expected [["prompt", ["seed", ...]], ...], found {})", where, json.type_name());
    for (const auto& entry : json) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_array()) {
        throw_error(R"({}: entry {}: expected ["prompt", ["seed", ...]], found {})", where, prompts.size(),
                    printable(entry.dump()));
      }
      PromptSeeds prompt{entry[0].get<std::string>(), {}};
      for (const auto& seed : entry[1]) {
        prompt.seeds.push_back(seed.is_string() ? seed.get<std::string>() : seed.dump());
        if (!is_pair_name(prompt.seeds.back())) {
          throw_error("{}: entry {}: expected letters and digits as a seed, found '{}'", where, prompts.size(),
                      printable(prompt.seeds.back()));
        }
      }
      if (!is_pair_name(prompt.prompt)) {
        throw_error("{}: entry {}: expected letters and digits as a prompt's folder, found '{}'", where, prompts.size(),
                    printable(prompt.prompt));
      }
      prompts.push_back(std::move(prompt));
    }
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: expected JSON, found {}", where, detail::json_fault(error));
  }
  sort_prompts(prompts, where);
  return prompts;
}

/// What the names of a set's pictures may end in: the published set's first, then those that other programs write.
inline constexpr std::array<std::string_view, 8> pair_extensions{".jpg", ".jpeg", ".png", ".webp",
                                                                 ".JPG", ".JPEG", ".PNG", ".WEBP"};

/// The seed of a picture called `{seed}_0` or `{seed}_1` with one of these extensions; empty for other names.
inline std::string pair_seed(const std::string& name) {
  for (const auto extension : pair_extensions) {
    if (!name.ends_with(extension)) continue;
    const auto stem = name.substr(0, name.size() - extension.size());
    if (!stem.ends_with("_0") && !stem.ends_with("_1")) return {};
    return is_pair_name(stem.substr(0, stem.size() - 2)) ? stem.substr(0, stem.size() - 2) : std::string();
  }
  return {};
}

/// Builds the same list from the folders that have pictures `{seed}_0.jpg` or `{seed}_1.jpg`, or the like; others are
/// ignored.
inline std::vector<PromptSeeds> scan_seeds(const std::filesystem::path& folder) {
  std::vector<PromptSeeds> prompts;
  try {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const auto prompt = entry.path().filename().string();
      if (!entry.is_directory() || !is_pair_name(prompt)) continue;
      std::set<std::string> seeds;
      for (const auto& file : std::filesystem::directory_iterator(entry.path())) {
        const auto seed = pair_seed(file.path().filename().string());
        if (!seed.empty()) seeds.insert(seed);
      }
      if (!seeds.empty()) prompts.push_back({prompt, {seeds.begin(), seeds.end()}});
    }
  } catch (const std::filesystem::filesystem_error& error) {
    throw_error("cannot list '{}': {}", folder.string(), error.code().message());
  }
  sort_prompts(prompts, folder.string());
  return prompts;
}

}  // namespace detail

}  // namespace ip2p
