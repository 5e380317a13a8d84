#pragma once

/// \file
/// Finds models by their names on the Hugging Face Hub in the cache that diffusers, transformers and huggingface_hub
/// fill. Reads folders only; `download_model` (hub_download.hpp) fetches what is absent.

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p {

namespace detail {

/// The value of an environment variable, or nothing if it is unset or empty.
inline std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

/// Whether an environment variable switches something on, as huggingface_hub reads it.
inline bool environment_is_on(const char* name) {
  auto value = environment(name).value_or("");
  for (auto& c : value) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

/// The user's home folder.
inline std::filesystem::path home_folder() {
  if (const auto home = environment("HOME")) return *home;
  const auto* entry = ::getpwuid(::getuid());
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "/";
}

/// `text` with `~` at its beginning, `$NAME` and `${NAME}` replaced, as huggingface_hub does for the paths in its
/// variables. A variable that is unset stays as it is written.
inline std::filesystem::path expanded_path(std::string text) {
  if (text == "~" || text.starts_with("~/")) text.replace(0, 1, home_folder().string());
  for (auto dollar = text.find('$'); dollar != std::string::npos; dollar = text.find('$', dollar)) {
    const bool braced = dollar + 1 < text.size() && text[dollar + 1] == '{';
    const auto first = dollar + (braced ? 2 : 1);
    auto last = first;
    while (last < text.size() && (std::isalnum(static_cast<unsigned char>(text[last])) || text[last] == '_')) ++last;
    const bool closed = !braced || (last < text.size() && text[last] == '}');
    const char* value = closed && last > first ? std::getenv(text.substr(first, last - first).c_str()) : nullptr;
    if (value == nullptr) {
      dollar = first;
      continue;
    }
    const std::string inserted(value);
    text.replace(dollar, last + (braced ? 1 : 0) - dollar, inserted);
    dollar += inserted.size();
  }
  return text;
}

/// Whether `path` leads from a folder to something inside it: relative, and of plain names.
inline bool is_plain_relative_path(std::string_view path) {
  if (path.empty() || path.size() > 1024) return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find('/', begin), path.size());
    const auto name = path.substr(begin, end - begin);
    if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
    begin = end + 1;
  }
  return std::none_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\' || c == ':';
  });
}

/// Whether `text` is a commit's name: 40 hexadecimal digits.
inline bool is_commit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace detail

/// The folder of huggingface_hub's files: `HF_HOME`, or else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
inline std::filesystem::path hub_home() {
  if (const auto home = detail::environment("HF_HOME")) return detail::expanded_path(*home);
  if (const auto cache = detail::environment("XDG_CACHE_HOME")) {
    return detail::expanded_path((std::filesystem::path(*cache) / "huggingface").string());
  }
  return detail::home_folder() / ".cache" / "huggingface";
}

/// The cache of models: `HF_HUB_CACHE`, or else `hub` in `hub_home()`.
inline std::filesystem::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto cache = detail::environment(name)) return detail::expanded_path(*cache);
  }
  return hub_home() / "hub";
}

/// The name of a model on the Hub, or of a part of one.
struct HubName {
  std::string id;        ///< `owner/name`; `name` alone for the oldest models.
  std::string part;      ///< A folder or file in it, such as `vae`; empty: the whole.
  std::string revision;  ///< A branch, a tag or a commit; empty: the default, `main`.

  /// Reads `owner/name`, `owner/name/part`, and either of these with `@revision` at the end. Nothing if the text cannot
  /// be such a name: a path that begins with a slash, a dot or a tilde, say, or the name of a weights file.
  static std::optional<HubName> parse(std::string_view text) {
    HubName name;
    const auto mark = text.find('@');
    if (mark != std::string_view::npos) {
      name.revision = text.substr(mark + 1);
      if (!detail::is_plain_relative_path(name.revision) || name.revision.starts_with('-')) return std::nullopt;
      if (name.revision.find('@') != std::string::npos) return std::nullopt;
    }
    const auto place = text.substr(0, mark);
    const auto owner = place.find('/');
    const auto end = owner == std::string_view::npos ? owner : place.find('/', owner + 1);
    name.id = place.substr(0, end);
    if (end != std::string_view::npos) {
      name.part = place.substr(end + 1);
      if (!detail::is_plain_relative_path(name.part)) return std::nullopt;
    }
    if (!is_id(name.id)) return std::nullopt;
    return name;
  }

  /// The form that `parse` reads.
  [[nodiscard]] std::string text() const {
    return id + (part.empty() ? "" : "/" + part) + (revision.empty() ? "" : "@" + revision);
  }

  /// Name of the model's folder in a cache: `models--owner--name`.
  [[nodiscard]] std::string folder() const {
    auto name = "models--" + id;
    if (const auto slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
    return name;
  }

 private:
  /// The Hub's own rules for names; and that of a file is none.
  static bool is_id(std::string_view id) {
    if (id.size() > 96 || id.find("--") != std::string_view::npos || id.find("..") != std::string_view::npos) {
      return false;
    }
    for (std::size_t begin = 0; begin <= id.size();) {
      const auto end = std::min(id.find('/', begin), id.size());
      const auto part = id.substr(begin, end - begin);
      if (part.empty() || std::string_view(".-").find(part.front()) != std::string_view::npos ||
          std::string_view(".-").find(part.back()) != std::string_view::npos) {
        return false;
      }
      begin = end + 1;
    }
    for (const std::string_view ending : {".git", ".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".json"}) {
      if (id.ends_with(ending)) return false;
    }
    return std::all_of(id.begin(), id.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '-' || c == '_' || c == '.';
    });
  }
};

namespace detail {

/// Whether a folder is a model's in a cache, which holds snapshots of the model beside the blobs that they link to.
inline bool is_cached_model(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::is_directory(folder / "snapshots", ignored) &&
         (std::filesystem::is_directory(folder / "refs", ignored) ||
          std::filesystem::is_directory(folder / "blobs", ignored));
}

/// Names one after another, for messages.
template <class Names>
std::string with_commas(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + printable(name);
  return text;
}

/// Names of the folders in `folder`, sorted.
inline std::vector<std::string> subfolders(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The commit that a model's folder in a cache holds for a revision, or nothing. Without a revision it is that of
/// `main` or, failing that, the only one there is. \throws Error where several would do
inline std::optional<std::string> cached_commit(const std::filesystem::path& folder, const std::string& revision) {
  const auto snapshots = subfolders(folder / "snapshots");
  const auto held = [&](const std::string& commit) {
    return std::binary_search(snapshots.begin(), snapshots.end(), commit);
  };
  std::error_code ignored;
  const auto ref = folder / "refs" / (revision.empty() ? "main" : revision);
  if (std::filesystem::is_regular_file(ref, ignored)) {
    auto commit = file_text(ref).value_or("");
    while (!commit.empty() && std::isspace(static_cast<unsigned char>(commit.back()))) commit.pop_back();
    if (is_plain_relative_path(commit) && held(commit)) return commit;
    if (!revision.empty()) return std::nullopt;
  }
  std::vector<std::string> fitting;
  for (const auto& name : snapshots) {
    if (name == revision) return name;
    if (revision.empty() || (revision.size() >= 7 && name.starts_with(revision))) fitting.push_back(name);
  }
  require(fitting.size() < 2, "{}: holds several revisions and none of the name '{}'; name one, as in '@{}': {}",
          folder.string(), revision.empty() ? "main" : revision, fitting.empty() ? "" : fitting.front().substr(0, 10),
          with_commas(fitting));
  return fitting.empty() ? std::nullopt : std::optional(fitting.front());
}

/// The snapshot of a model's folder in a cache. \throws Error if there is none of this revision
inline std::filesystem::path cached_snapshot(const std::filesystem::path& folder, const std::string& revision) {
  const auto commit = cached_commit(folder, revision);
  if (commit) return folder / "snapshots" / *commit;
  const auto held = subfolders(folder / "snapshots");
  throw_error("{}: expected a snapshot of the revision '{}', found {}", folder.string(),
              revision.empty() ? "main" : revision, held.empty() ? "none" : with_commas(held));
}

}  // namespace detail

/// Where a cache holds a model: the folder of a snapshot, with diffusers' or transformers' layout, or what lies there
/// at the name's part; nothing if the cache does not have it. What is there may be a part of the model only. \throws
/// Error where the name fits several revisions
inline std::optional<std::filesystem::path> find_cached_model(const HubName& name,
                                                              const std::filesystem::path& cache = hub_cache()) {
  const auto folder = cache / name.folder();
  if (!detail::is_cached_model(folder)) return std::nullopt;
  const auto commit = detail::cached_commit(folder, name.revision);
  if (!commit) return std::nullopt;
  auto place = folder / "snapshots" / *commit;
  if (!name.part.empty()) place /= name.part;
  std::error_code ignored;
  if (!std::filesystem::exists(place, ignored)) return std::nullopt;
  return place;
}

/// The file or folder of a model that is named in any of these ways:
/// - a file or folder that exists: itself;
/// - a model's folder in a cache, `.../models--owner--name` with or without `@revision`: its snapshot;
/// - a name on the Hub (`HubName`): its place in the cache.
///
/// A file or folder that exists counts before a name on the Hub. No network is used.
/// \throws Error saying what was looked for, and where
inline std::filesystem::path resolve_model(const std::filesystem::path& model,
                                           const std::filesystem::path& cache = hub_cache()) {
  std::error_code ignored;
  const auto text = model.string();
  if (std::filesystem::exists(model, ignored)) {
    if (!std::filesystem::is_directory(model, ignored)) return model;
    if (detail::is_cached_model(model)) return detail::cached_snapshot(model, "");
    auto folder = std::filesystem::absolute(model, ignored).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();  // a slash at the end
    if (folder.filename() == "snapshots" && detail::is_cached_model(folder.parent_path())) {
      return detail::cached_snapshot(folder.parent_path(), "");
    }
    return model;
  }
  if (const auto mark = text.rfind('@'); mark != std::string::npos && mark + 1 < text.size()) {
    const std::filesystem::path folder = text.substr(0, mark);
    if (detail::is_cached_model(folder)) return detail::cached_snapshot(folder, text.substr(mark + 1));
  }
  const auto name = HubName::parse(text);
  if (name) {
    if (auto found = find_cached_model(*name, cache)) return *std::move(found);
  }
  const auto shown = detail::printable(text);
  require(name.has_value(), "cannot open the model '{}': there is no such file or folder", shown);
  const auto folder = cache / name->folder();
  require(detail::is_cached_model(folder),
          "cannot open the model '{}': there is no such file or folder, and the cache '{}' holds no model of this name",
          shown, cache.string());
  const auto commit = detail::cached_commit(folder, name->revision);
  require(commit.has_value(),
          "cannot open the model '{}': there is no such file or folder, and the cache '{}' holds it in other revisions "
          "only: {}",
          shown, cache.string(), detail::with_commas(detail::subfolders(folder / "snapshots")));
  throw_error("cannot open the model '{}': the cache '{}' holds the model, but no '{}' in it", shown, cache.string(),
              name->part);
}

namespace detail {

/// A path that exists as it is, a name that the cache holds as `resolve_model` finds it, anything else as it is.
inline std::filesystem::path resolved_if_cached(const std::filesystem::path& given) {
  std::error_code ignored;
  if (std::filesystem::exists(given, ignored)) return resolve_model(given);
  const auto name = HubName::parse(given.string());
  return name ? find_cached_model(*name).value_or(given) : given;
}

}  // namespace detail

}  // namespace ip2p
