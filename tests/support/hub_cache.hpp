#pragma once

// Caches of models as huggingface_hub lays them out, and the variables that tell where they are.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ip2p::testing {

/// Sets variables of the environment, and brings back those that were there.
class Environment {
 public:
  using Values = std::map<std::string, std::optional<std::string>>;

  explicit Environment(const Values& values) {
    for (const auto& [name, value] : values) {
      const char* before = std::getenv(name.c_str());
      before_.emplace_back(name, before == nullptr ? std::nullopt : std::optional<std::string>(before));
      set(name, value);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : before_) set(name, value);
  }

 private:
  static void set(const std::string& name, const std::optional<std::string>& value) {
    if (value) {
      setenv(name.c_str(), value->c_str(), 1);
    } else {
      unsetenv(name.c_str());
    }
  }
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

/// Names a cache's folder, and no other place where one could be.
inline Environment::Values only_cache(const std::filesystem::path& cache) {
  return {{"HF_HUB_CACHE", cache.string()},
          {"HUGGINGFACE_HUB_CACHE", {}},
          {"HF_HOME", (cache / "home").string()},
          {"HF_TOKEN", {}},
          {"HUGGING_FACE_HUB_TOKEN", {}},
          {"HF_TOKEN_PATH", {}},
          {"HF_ENDPOINT", {}},
          {"HF_HUB_OFFLINE", {}},
          {"TRANSFORMERS_OFFLINE", {}},
          {"HF_HUB_DISABLE_IMPLICIT_TOKEN", {}}};
}

/// Puts the files of `source` into a model's folder in a cache: a snapshot whose files are links to blobs. \return it
inline std::filesystem::path add_to_cache(const std::filesystem::path& folder, const std::filesystem::path& source,
                                          const std::string& commit) {
  namespace fs = std::filesystem;
  fs::create_directories(folder / "blobs");
  fs::create_directories(folder / "refs");
  std::ofstream(folder / "refs" / "main") << commit;
  int number = 0;
  for (const auto& entry : fs::recursive_directory_iterator(source)) {
    if (!entry.is_regular_file()) continue;
    const auto blob = folder / "blobs" / std::to_string(1000000 + number++);
    fs::copy_file(entry.path(), blob);
    const auto place = folder / "snapshots" / commit / fs::relative(entry.path(), source);
    fs::create_directories(place.parent_path());
    fs::create_symlink(fs::proximate(blob, place.parent_path()), place);
  }
  return folder / "snapshots" / commit;
}

}  // namespace ip2p::testing
