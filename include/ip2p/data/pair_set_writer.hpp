#pragma once

/// \file
/// Writes generated pairs in the layout of the published InstructPix2Pix set. Each prompt appears complete or not at
/// all.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/make_folder.hpp"

namespace ip2p {

/// Sampling parameters and CLIP scores of a pair: a line of metadata.jsonl.
struct PairNumbers {
  std::uint64_t seed = 0;                        ///< Of the pair's noise.
  double share = 0;                              ///< "p2p_threshold"
  double text_scale = 0;                         ///< "cfg_scale"
  double caption_before = 0, caption_after = 0;  ///< "clip_sim_0", "clip_sim_1"
  double direction = 0;                          ///< "clip_sim_dir"
  double image = 0;                              ///< "clip_sim_image"
};

/// A pair that goes into the set.
struct GeneratedPair {
  Image before, after;  ///< The two pictures.
  PairNumbers numbers;  ///< What it was drawn with, and its scores.
};

/// "0000012": the folder of prompt 12.
inline std::string prompt_folder(std::int64_t prompt) { return fmt::format("{:07}", prompt); }

namespace detail {

/// Formats JSON as Python's json module does; ill-formed UTF-8 becomes U+FFFD.
inline std::string python_json(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

/// The text of prompt.json, with the released keys, order and spacing; `parse_pair_words` returns `words` from it.
inline std::string prompt_text(const PairWords& words) {
  auto text = fmt::format(R"({{"input": {}, "edit": {}, "output": {})", python_json(words.input),
                          python_json(words.instruction), python_json(words.output));
  if (!words.url.empty()) text += R"(, "url": )" + python_json(words.url);
  return text + "}";
}

/// A line of metadata.jsonl, with the released keys, order and spacing. NaN and infinities become null.
inline std::string metadata_line(const PairNumbers& pair) {
  return fmt::format(
      R"({{"seed": {}, "p2p_threshold": {}, "cfg_scale": {}, "clip_sim_0": {}, "clip_sim_1": {}, "clip_sim_dir": {}, )"
      R"("clip_sim_image": {}}})"
      "\n",
      pair.seed, python_json(pair.share), python_json(pair.text_scale), python_json(pair.caption_before),
      python_json(pair.caption_after), python_json(pair.direction), python_json(pair.image));
}

}  // namespace detail

/// Writes a set prompt by prompt: `{out}/{prompt}/` with prompt.json, metadata.jsonl and, as JPEG of quality 100,
/// `{seed}_0.jpg` (before) and `{seed}_1.jpg` (after); then `{out}/seeds.json`. `PairFolder` reads it. Processes that
/// share a set may safely publish the same prompt and complete the set concurrently.
class PairSetWriter {
 public:
  /// \param unfinished a folder on the same file system, for prompts in progress
  PairSetWriter(std::filesystem::path out, std::filesystem::path unfinished)
      : out_(std::move(out)), unfinished_(std::move(unfinished)) {}

  /// Renames the prompt's folder into place once all of it is on disk; an existing one is left alone.
  /// \param pairs in the order of metadata.jsonl  \return the seeds of the folder now in place, sorted
  /// \throws Error on I/O failure; the prompt is then not published
  std::vector<std::string> publish(const std::string& prompt, const PairWords& words,
                                   std::span<const GeneratedPair> pairs) const {
    namespace fs = std::filesystem;
    const auto target = out_ / prompt;
    const auto folder = unfinished_ / (prompt + "." + random_name());
    std::error_code problem;
    try {
      make_folder(folder);
      std::string lines;
      for (const auto& pair : pairs) {
        write_image(folder / fmt::format("{}_0.jpg", pair.numbers.seed), pair.before, 100);
        write_image(folder / fmt::format("{}_1.jpg", pair.numbers.seed), pair.after, 100);
        lines += detail::metadata_line(pair.numbers);
      }
      write_text(folder / "prompt.json", detail::prompt_text(words));
      write_text(folder / "metadata.jsonl", lines);
      move(folder, target);
    } catch (...) {
      fs::remove_all(folder, problem);
      if (!fs::is_directory(target, problem)) throw;  // otherwise another process published it first
    }
    return seeds_in(target);
  }

  /// Whether a prompt's folder exists.
  [[nodiscard]] bool has(const std::string& prompt) const {
    std::error_code ignored;
    return std::filesystem::is_directory(out_ / prompt, ignored);
  }

  /// Call once the set is complete: writes seeds.json, omitting prompts without seeds, unless it says so already, and
  /// removes what killed processes left unfinished. \param seeds of each prompt, as returned by `publish`  \throws
  /// Error on I/O failure
  void complete(const std::map<std::string, std::vector<std::string>>& seeds) const {
    namespace fs = std::filesystem;
    std::string text;
    for (const auto& [prompt, list] : seeds) {
      if (list.empty()) continue;
      std::string names;
      for (const auto& seed : list) names += (names.empty() ? "" : ", ") + detail::python_json(seed);
      text += fmt::format("{}[{}, [{}]]", text.empty() ? "" : ", ", detail::python_json(prompt), names);
    }
    text = "[" + text + "]";
    std::error_code problem;
    if (detail::file_text(out_ / "seeds.json") != text) {
      make_folder(unfinished_);
      const auto temporary = unfinished_ / ("seeds." + random_name());
      write_text(temporary, text);
      try {
        move(temporary, out_ / "seeds.json");
      } catch (const Error&) {
        fs::remove(temporary, problem);
        throw;
      }
    }
    if (!fs::exists(unfinished_, problem)) return;
    for (const auto& entry : detail::folder_entries(unfinished_)) {
      std::error_code ignored;
      if (entry.is_directory(ignored)) fs::remove_all(entry.path(), ignored);
    }
  }

 private:
  static std::string random_name() {
    std::random_device entropy;
    return fmt::format("{:08x}{:08x}", entropy(), entropy());
  }

  void move(const std::filesystem::path& from, const std::filesystem::path& to) const {
    const int code = ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
    require(code == 0, "cannot write '{}': rename failed: {}", to.string(), detail::errno_text(code));
    detail::sync_folder(out_);
  }

  static void write_text(const std::filesystem::path& path, const std::string& text) {
    write_file_atomically(path, std::as_bytes(std::span(text)));
  }

  static std::vector<std::string> seeds_in(const std::filesystem::path& folder) {
    std::vector<std::string> files;
    std::error_code problem;
    std::filesystem::directory_iterator entry(folder, problem);
    for (const std::filesystem::directory_iterator end; !problem && entry != end; entry.increment(problem)) {
      const auto name = entry->path().filename().string();
      if (name.ends_with("_0.jpg")) files.push_back(name);
    }
    require(!problem, "cannot list '{}': {}", folder.string(), problem.message());
    std::sort(files.begin(), files.end());  // by file name, in the released program's order
    for (auto& name : files) name.resize(name.size() - 6);
    return files;
  }

  std::filesystem::path out_, unfinished_;
};

}  // namespace ip2p
