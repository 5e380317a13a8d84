#pragma once

/// \file
/// Checkpoints of training runs: complete or absent, verified before use, the last few kept.

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/json_whole.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/weights.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/train/publish_folder.hpp"

namespace ip2p {

/// Everything a run needs to go on as if it had not been interrupted.
struct Checkpoint {
  std::int64_t step = 0;                            ///< Updates made.
  std::map<std::string, at::Tensor> tensors;        ///< Weights, averages, optimiser state.
  nlohmann::json state = nlohmann::json::object();  ///< Counters and settings of the run.
};

namespace detail {

/// The hash of a file's 64-bit words (the last padded with zeros) as 16 hex digits. Throws `Error` when it cannot be
/// read.
inline std::string file_checksum(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::uint64_t hash = fnv_start;
  std::vector<std::uint64_t> words(1 << 16);
  while (file) {
    std::memset(words.data(), 0, words.size() * 8);
    file.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * 8));
    const auto got = static_cast<std::size_t>(file.gcount());
    for (std::size_t i = 0; i < (got + 7) / 8; ++i) hash = fnv_word(hash, words[i]);
  }
  require(file.eof() && !file.bad(), "cannot read '{}'", path.string());
  return hash_text(hash);
}

inline constexpr const char* checkpoint_tensors = "tensors.safetensors";
inline constexpr const char* checkpoint_manifest = "manifest.json";
inline constexpr std::int64_t checkpoint_version = 1;

/// Throws `Error` unless the file holds `tensors`, bit for bit.
template <class Tensors>
void require_written(const std::filesystem::path& path, const Tensors& tensors) {
  const auto file = SafetensorsFile::open(path);
  const auto values = [](const auto& tensor) {
    if constexpr (requires { tensor.read(); }) {
      return tensor.read();
    } else {
      return tensor;
    }
  };
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor wanted = values(tensor).detach().cpu().contiguous();
    const auto found = file.tensor(name);
    require(found.nbytes() == wanted.nbytes() &&
                (wanted.nbytes() == 0 || std::memcmp(found.data_ptr(), wanted.data_ptr(), wanted.nbytes()) == 0),
            "'{}': tensor '{}': expected to read back what was written, found other bits", path.string(), name);
  }
}

}  // namespace detail

/// A folder of checkpoints "step_N". A checkpoint is written to "step_N.tmp", every file made durable and read back,
/// its manifest last, and then renamed, so that a kill at any moment leaves the older ones intact and nothing
/// unfinished under a checkpoint's name. One run writes to a folder at a time.
class CheckpointFolder {
 public:
  /// \param keep newest checkpoints that stay on disk, >= 1; one more needs room while it is written
  explicit CheckpointFolder(std::filesystem::path folder, std::size_t keep = 2)
      : folder_(std::move(folder)), keep_(keep) {
    require(keep >= 1, "checkpoints to keep: expected at least 1, found {}", keep);
  }

  /// Writes one checkpoint and removes those that are older than the last `keep`. Throws `Error` on I/O failure, and
  /// when the folder holds a later checkpoint; what was there is untouched then, and nothing is added.
  void save(const Checkpoint& checkpoint) const { save(checkpoint, checkpoint.tensors); }

  /// The same with other tensors than the checkpoint's own: a map, or `Weights`, which are read one at a time, twice.
  template <class Tensors>
  void save(const Checkpoint& checkpoint, const Tensors& tensors) const {
    namespace fs = std::filesystem;
    const auto target = path_of(checkpoint.step);
    const auto temporary = fs::path(target.string() + ".tmp");
    const auto clear_up = [&] {
      std::error_code ignored;
      fs::remove_all(temporary, ignored);
    };
    const auto give_up = [&](const char* why) {
      clear_up();
      throw_error("cannot write checkpoint '{}': {}", target.string(), why);
    };
    try {
      if (fs::create_directories(folder_)) detail::sync_folder(folder_.parent_path());
      const auto before = steps();
      require(before.empty() || before.back() <= checkpoint.step,
              "expected no later one in the folder, found step_{}; resume from it, or choose another folder",
              before.empty() ? 0 : before.back());
      remove_unfinished();
      fs::create_directory(temporary);
      write(temporary, checkpoint, tensors);
      detail::publish_folder(temporary, target);
    } catch (const Error& error) {
      give_up(error.what());
    } catch (const fs::filesystem_error& error) {
      give_up(error.what());
    } catch (...) {
      clear_up();
      throw;
    }
    const auto all = steps();
    for (std::size_t i = 0; i + keep_ < all.size(); ++i) detail::remove_folder(path_of(all[i]));
  }

  /// The newest checkpoint that verifies, or nothing where there is none.
  /// \param skipped if given, receives one line for each newer one that did not verify, saying why
  /// \throws Error when there are checkpoints and none of them verifies
  [[nodiscard]] std::optional<Checkpoint> load_newest(std::vector<std::string>* skipped = nullptr) const {
    const auto all = steps();
    std::string reasons;
    for (auto step = all.rbegin(); step != all.rend(); ++step) {
      try {
        return load(path_of(*step));
      } catch (const Error& error) {
        if (skipped != nullptr) skipped->push_back(error.what());
        reasons += fmt::format("\n  {}", error.what());
      }
    }
    require(all.empty(),
            "checkpoints in '{}': expected one that verifies, found none among {}; move them away to start "
            "from the beginning{}",
            folder_.string(), all.size(), reasons);
    return std::nullopt;
  }

  /// Reads and verifies the checkpoint in `path`. Throws `Error` when a file is missing or does not match its manifest.
  static Checkpoint load(const std::filesystem::path& path) {
    const auto text = detail::file_text(path / detail::checkpoint_manifest);
    require(text.has_value(), "checkpoint '{}': no {}", path.string(), detail::checkpoint_manifest);
    Checkpoint checkpoint;
    try {
      auto manifest = detail::parse_json(*text);
      const auto version = detail::json_whole<std::int64_t>(manifest.at("version"));
      require(version == detail::checkpoint_version, "checkpoint '{}': {}: expected version {}, found {}",
              path.string(), detail::checkpoint_manifest, detail::checkpoint_version, version);
      const auto stated = manifest.at("checksum").get<std::string>();
      manifest.erase("checksum");
      const auto own = detail::text_checksum(manifest.dump());
      require(own == stated, "checkpoint '{}': {}: expected checksum {}, found {}", path.string(),
              detail::checkpoint_manifest, stated, own);
      for (const auto& [name, expected] : manifest.at("files").items()) {
        std::error_code problem;
        const auto bytes = std::filesystem::file_size(path / name, problem);
        require(!problem, "checkpoint '{}': no {}", path.string(), name);
        const auto size = detail::json_whole<std::uintmax_t>(expected.at("bytes"));
        require(bytes == size, "checkpoint '{}': {}: expected {} bytes, found {}", path.string(), name, size, bytes);
        const auto found = detail::file_checksum(path / name);
        require(found == expected.at("checksum").get<std::string>(),
                "checkpoint '{}': {}: expected checksum {}, found {}", path.string(), name,
                expected.at("checksum").get<std::string>(), found);
      }
      checkpoint.step = detail::json_whole<std::int64_t>(manifest.at("step"));
      checkpoint.state = manifest.at("state");
    } catch (const nlohmann::json::exception& error) {
      throw_error("checkpoint '{}': {}: {}", path.string(), detail::checkpoint_manifest, error.what());
    }
    const auto tensors = SafetensorsFile::open(path / detail::checkpoint_tensors);
    for (const auto& name : tensors.names()) checkpoint.tensors.emplace(name, tensors.tensor(name));
    return checkpoint;
  }

  /// Steps of the complete checkpoints, ascending. Throws `Error` when the folder is there and cannot be listed.
  [[nodiscard]] std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> result;
    for (const auto& name : names()) {
      if (const auto step = step_of(name)) result.push_back(*step);
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  /// Renames the checkpoints after `step` to "step_N.damaged", because a run that continues from `step` reaches theirs
  /// again.
  void set_aside_after(std::int64_t step) const {
    namespace fs = std::filesystem;
    for (const auto later : steps()) {
      if (later <= step) continue;
      const auto aside = fs::path(path_of(later).string() + ".damaged");
      std::error_code ignored;
      fs::remove_all(aside, ignored);
      fs::rename(path_of(later), aside, ignored);
    }
  }

 private:
  [[nodiscard]] std::filesystem::path path_of(std::int64_t step) const {
    return folder_ / fmt::format("step_{}", step);
  }

  /// Names of what is in the folder. A missing folder is fine; an unreadable one is an error.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    std::error_code code;
    for (std::filesystem::directory_iterator entry(folder_, code), end; !code && entry != end; entry.increment(code)) {
      result.push_back(entry->path().filename().string());
    }
    require(!code || code == std::errc::no_such_file_or_directory, "cannot list '{}': {}", folder_.string(),
            code.message());
    return result;
  }

  /// 12 for "step_12".
  static std::optional<std::int64_t> step_of(const std::string& name) {
    if (!name.starts_with("step_") || name.size() < 6 || name.size() > 23) return std::nullopt;
    if (name.find_first_not_of("0123456789", 5) != std::string::npos) return std::nullopt;
    return std::stoll(name.substr(5));
  }

  template <class Tensors>
  static void write(const std::filesystem::path& temporary, const Checkpoint& checkpoint, const Tensors& values) {
    const auto tensors = temporary / detail::checkpoint_tensors;
    write_safetensors(tensors, values);
    detail::require_written(tensors, values);
    nlohmann::json manifest{
        {"version", detail::checkpoint_version}, {"step", checkpoint.step}, {"state", checkpoint.state}};
    manifest["files"][detail::checkpoint_tensors] = {{"bytes", std::filesystem::file_size(tensors)},
                                                     {"checksum", detail::file_checksum(tensors)}};
    // A manifest holds counters of the run, and nothing else would notice a digit that changed.
    manifest["checksum"] = detail::text_checksum(manifest.dump());
    const auto text = manifest.dump(2);
    const auto path = temporary / detail::checkpoint_manifest;
    write_file_atomically(path, std::as_bytes(std::span(text)));
    require(detail::file_text(path) == text, "'{}': expected to read back what was written, found other bits",
            path.string());
  }

  /// Removes what killed writers left behind.
  void remove_unfinished() const {
    for (const auto& name : names()) {
      if (name.ends_with(".tmp") && step_of(name.substr(0, name.size() - 4)))
        std::filesystem::remove_all(folder_ / name);
    }
  }

  std::filesystem::path folder_;
  std::size_t keep_;
};

}  // namespace ip2p
