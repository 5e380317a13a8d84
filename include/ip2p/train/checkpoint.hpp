#pragma once

/// \file
/// Checkpoints of training runs: complete or absent, verified before use, the last few kept.

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/safetensors.hpp"

namespace ip2p {

/// Everything a run needs to go on as if it had not been interrupted.
struct Checkpoint {
  std::int64_t step = 0;                            ///< Updates made.
  std::map<std::string, at::Tensor> tensors;        ///< Weights, averages, optimiser state.
  nlohmann::json state = nlohmann::json::object();  ///< Counters and settings of the run.
};

namespace detail {

/// FNV-1a over 64-bit words of a file (the last padded with zeros), as 16 hex digits. Guards against truncation and
/// bit rot, not against intent.
inline std::string file_checksum(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::uint64_t hash = 0xcbf29ce484222325u;
  std::vector<std::uint64_t> words(1 << 16);
  while (file) {
    std::memset(words.data(), 0, words.size() * 8);
    file.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * 8));
    const auto got = static_cast<std::size_t>(file.gcount());
    for (std::size_t i = 0; i < (got + 7) / 8; ++i) hash = (hash ^ words[i]) * 0x100000001b3u;
  }
  return fmt::format("{:016x}", hash);
}

inline constexpr const char* checkpoint_tensors = "tensors.safetensors";
inline constexpr const char* checkpoint_manifest = "manifest.json";

}  // namespace detail

/// A folder of checkpoints "step_N". A checkpoint is written to "step_N.tmp", every file made durable, its manifest
/// last, and then renamed, so that a kill at any moment leaves the older ones intact.
class CheckpointFolder {
 public:
  /// \param keep newest checkpoints that stay on disk, >= 1
  explicit CheckpointFolder(std::filesystem::path folder, std::size_t keep = 2)
      : folder_(std::move(folder)), keep_(keep) {
    require(keep >= 1, "checkpoints to keep: expected at least 1, found {}", keep);
  }

  /// Writes one checkpoint and removes those that are older than the last `keep`. Throws `Error` on I/O failure; older
  /// checkpoints are untouched then.
  void save(const Checkpoint& checkpoint) const {
    namespace fs = std::filesystem;
    const auto target = folder_ / fmt::format("step_{}", checkpoint.step);
    const auto temporary = fs::path(target.string() + ".tmp");
    try {
      fs::create_directories(folder_);
      fs::remove_all(temporary);
      fs::create_directory(temporary);
      write_safetensors(temporary / detail::checkpoint_tensors, checkpoint.tensors);
      nlohmann::json manifest{{"version", 1}, {"step", checkpoint.step}, {"state", checkpoint.state}};
      manifest["files"][detail::checkpoint_tensors] = {
          {"bytes", fs::file_size(temporary / detail::checkpoint_tensors)},
          {"checksum", detail::file_checksum(temporary / detail::checkpoint_tensors)}};
      const auto text = manifest.dump(2);
      write_file_atomically(temporary / detail::checkpoint_manifest, std::as_bytes(std::span(text)));
      fs::remove_all(target);
      fs::rename(temporary, target);
    } catch (const fs::filesystem_error& error) {
      fail("cannot write checkpoint '{}': {}", target.string(), error.what());
    }
    const auto all = steps();
    for (std::size_t i = 0; i + keep_ < all.size(); ++i) {
      std::error_code ignored;
      fs::remove_all(folder_ / fmt::format("step_{}", all[i]), ignored);
    }
  }

  /// The newest checkpoint that verifies, or nothing. \param skipped if given, receives one line for each newer one
  /// that did not verify, saying why
  [[nodiscard]] std::optional<Checkpoint> load_newest(std::vector<std::string>* skipped = nullptr) const {
    auto all = steps();
    for (auto step = all.rbegin(); step != all.rend(); ++step) {
      try {
        return load(folder_ / fmt::format("step_{}", *step));
      } catch (const Error& error) {
        if (skipped != nullptr) skipped->push_back(error.what());
      }
    }
    return std::nullopt;
  }

  /// Reads and verifies the checkpoint in `path`. Throws `Error` when a file is missing or does not match its manifest.
  static Checkpoint load(const std::filesystem::path& path) {
    std::ifstream file(path / detail::checkpoint_manifest);
    require(file.good(), "checkpoint '{}': no {}", path.string(), detail::checkpoint_manifest);
    Checkpoint checkpoint;
    try {
      const auto manifest = nlohmann::json::parse(file);
      for (const auto& [name, expected] : manifest.at("files").items()) {
        std::error_code problem;
        const auto bytes = std::filesystem::file_size(path / name, problem);
        require(!problem, "checkpoint '{}': no {}", path.string(), name);
        require(bytes == expected.at("bytes").get<std::uintmax_t>(), "checkpoint '{}': {}: expected {} bytes, found {}",
                path.string(), name, expected.at("bytes").get<std::uintmax_t>(), bytes);
        const auto found = detail::file_checksum(path / name);
        require(found == expected.at("checksum").get<std::string>(),
                "checkpoint '{}': {}: expected checksum {}, found {}", path.string(), name,
                expected.at("checksum").get<std::string>(), found);
      }
      checkpoint.step = manifest.at("step").get<std::int64_t>();
      checkpoint.state = manifest.at("state");
    } catch (const nlohmann::json::exception& error) {
      fail("checkpoint '{}': {}: {}", path.string(), detail::checkpoint_manifest, error.what());
    }
    const auto tensors = SafetensorsFile::open(path / detail::checkpoint_tensors);
    for (const auto& name : tensors.names()) checkpoint.tensors.emplace(name, tensors.tensor(name));
    return checkpoint;
  }

  /// Steps of the complete checkpoints, ascending.
  [[nodiscard]] std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> result;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
      const auto name = entry.path().filename().string();
      if (!name.starts_with("step_") || name.find_first_not_of("0123456789", 5) != std::string::npos) continue;
      if (name.size() > 5 && name.size() < 24) result.push_back(std::stoll(name.substr(5)));
    }
    std::sort(result.begin(), result.end());
    return result;
  }

 private:
  std::filesystem::path folder_;
  std::size_t keep_;
};

}  // namespace ip2p
