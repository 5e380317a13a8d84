#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

#include "support/catch.hpp"

namespace ip2p::testing {

/// Root of the tests folder of the source tree: IP2P_TESTS, which CTest sets, or the nearest one above the working
/// directory. (With a path that is compiled in, clones could not share compiled files.)
inline const std::filesystem::path& tests_root() {
  static const auto root = [] {
    if (const char* named = std::getenv("IP2P_TESTS")) return std::filesystem::path(named);
    auto folder = std::filesystem::current_path();
    while (!std::filesystem::exists(folder / "tests/support/paths.hpp")) {
      if (folder == folder.parent_path()) throw std::runtime_error("set IP2P_TESTS to the tests folder of the sources");
      folder = folder.parent_path();
    }
    return folder / "tests";
  }();
  return root;
}

/// A committed fixture, by its path below tests/.
inline std::filesystem::path fixture(std::string_view name) { return tests_root() / name; }

/// Folder with the real data sets that are not part of the repository, or nothing where they are absent.
/// Set IP2P_TEST_DATA to name it; `shared/data` beside the checkout is found without it.
inline std::optional<std::filesystem::path> shared_data() {
  if (const char* named = std::getenv("IP2P_TEST_DATA")) return std::filesystem::path(named);
  const auto beside = tests_root().parent_path().parent_path() / "shared" / "data";
  if (std::filesystem::is_directory(beside)) return beside;
  return std::nullopt;
}

/// A folder for one test's files, deleted when the value goes out of scope.
class ScratchDir {
 public:
  ScratchDir() {
    std::random_device entropy;
    path_ = std::filesystem::temp_directory_path() /
            ("ip2p-test-" + std::to_string(entropy()) + "-" + std::to_string(entropy()));
    std::filesystem::create_directories(path_);
  }
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace ip2p::testing
