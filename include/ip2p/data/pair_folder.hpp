#pragma once

/// \file
/// The published layout of the InstructPix2Pix training set: seeds.json and one folder per prompt with its pictures;
/// and the image folder that the trainer of diffusers takes.

#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/data/image_folder.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/seed_list.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/image.hpp"

namespace ip2p {

/// Which prompts of the set to use.
/// `train`, `validation` and `test` are 90, 5 and 5 % of them in order; `all` is the whole set.
enum class PairSplit { train, validation, test, all };

/// First and end index of a split of `count` prompts: .9, .05 and .05 of them, cut at floor(share * count) in double
/// (`edit_dataset.py`).
inline std::pair<std::int64_t, std::int64_t> split_range(PairSplit split, std::int64_t count) {
  const auto cut = [count](double share) {
    return static_cast<std::int64_t>(std::floor(share * static_cast<double>(count)));
  };
  switch (split) {
    case PairSplit::train:
      return {0, cut(0.9)};
    case PairSplit::validation:
      return {cut(0.9), cut(0.9 + 0.05)};
    case PairSplit::test:
      return {cut(0.9 + 0.05), count};
    case PairSplit::all:
      break;
  }
  return {0, count};
}

/// Settings of `PairFolder`.
struct PairFolderOptions {
  PairSplit split = PairSplit::train;  ///< The part of the set that is read.
  /// List the folder instead of reading seeds.json; for unfinished or partial sets. No effect on an image folder.
  bool scan = false;
  /// Damaged pairs and prompts that may be skipped before reading fails.
  std::int64_t largest_damage = 100;
};

/// The published layout: seeds.json, and for each prompt `{prompt}/prompt.json`, `{prompt}/{seed}_0.jpg` (before) and
/// `{prompt}/{seed}_1.jpg` (after), or the same as .jpeg, .png or .webp. Satisfies `NamedPictureSource`.
///
/// A folder with a metadata.jsonl, or with folders `train`, `validation` and `test` that have one, is an image folder
/// instead, see data/image_folder.hpp. There, the folders are the splits; a single list is split as the published set.
///
/// Files are read on demand. A missing or damaged pair is noted and replaced by the next intact one: first the prompt's
/// other seeds in order, then the following prompts. So the pair depends only on the index and the number drawn, not on
/// what was read before. A value; copies share the list of damage.
class PairFolder {
 public:
  /// \throws Error without a seeds.json or metadata.jsonl (unless `options.scan`) or when it is malformed
  static PairFolder open(const std::filesystem::path& path, const PairFolderOptions& options = {}) {
    std::error_code ignored;
    require(std::filesystem::is_directory(path, ignored), "pair folder: '{}' is not a folder", path.string());
    const auto list = path / "seeds.json";
    if (!std::filesystem::exists(list, ignored) && detail::is_image_folder(path))
      return open_image_folder(path, options);
    if (!options.scan && !std::filesystem::exists(list, ignored)) {
      throw SettingNeeded(
          fmt::format(
              R"(pair folder '{}': expected seeds.json, [["0000000", ["seed", ...]], ...], beside the prompts' )"
              "folders, found none, nor the metadata.jsonl of an image folder",
              path.string()),
          "scan = true", "to list the folder instead");
    }
    PairFolder folder;
    folder.path_ = path;
    folder.options_ = options;
    auto all = options.scan ? detail::scan_seeds(path) : detail::read_seed_list(list);
    const auto [first, end] = split_range(options.split, static_cast<std::int64_t>(all.size()));
    folder.prompts_.assign(std::move_iterator(all.begin() + first), std::move_iterator(all.begin() + end));
    return folder;
  }

  /// Number of prompts in the split; may be 0 for a small set.
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(prompts_.size()); }
  /// The folder.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// The prompts of the split with their seeds, in order.
  [[nodiscard]] const std::vector<PromptSeeds>& prompts() const { return prompts_; }

  /// Draws one number. \param i from 0 to size() - 1
  [[nodiscard]] PairChoice choose(std::int64_t i, SampleRandom& random) const {
    require(i >= 0 && i < size(), "pair folder '{}': expected a prompt below {}, found {}", path_.string(), size(), i);
    return {i, random.uniform()};
  }

  /// "prompt/seed"; "prompt/" for a prompt without seeds.
  [[nodiscard]] std::string id(const PairChoice& choice) const {
    const auto& entry = prompts_.at(static_cast<std::size_t>(choice.prompt));
    return entry.prompt + "/" + (entry.seeds.empty() ? std::string() : entry.seeds[choice.of(entry.seeds.size())]);
  }

  /// The chosen pair or the next intact one.
  /// \throws Error when more than `largest_damage` pairs or prompts are damaged, or none is intact
  [[nodiscard]] PairPictures read(const PairChoice& choice) const {
    for (std::int64_t k = 0; k < size(); ++k) {
      const auto& entry = prompts_[static_cast<std::size_t>((choice.prompt + k) % size())];
      const auto count = entry.seeds.size();
      PairWords words;
      try {
        require(count > 0, "expected a seed in the list, found none");
        if (rows_.empty()) words = words_of(entry.prompt);
      } catch (const Error& error) {
        note((path_ / entry.prompt / "prompt.json").string(), error.what());
        continue;
      }
      for (std::size_t v = 0; v < count; ++v) {
        const auto& seed = entry.seeds[(choice.of(count) + v) % count];
        try {
          return decode_pair(files(entry.prompt, seed, words));
        } catch (const Error& error) {
          note((path_ / entry.prompt / seed).string(), error.what());
        }
      }
    }
    const auto bad = damage();
    throw_error("pair folder '{}': expected a sound pair, found none among {} prompts{}", path_.string(), size(),
                bad.empty() ? std::string() : "; the first: " + bad.front().reason);
  }

  /// A pair of prompt `i`, drawn. \throws Error as `read`
  [[nodiscard]] PairPictures get(std::int64_t i, SampleRandom& random) const { return read(choose(i, random)); }

  /// One pair as stored. \throws Error when a file is missing, is not a picture or has no words
  [[nodiscard]] PairFiles files(const std::string& prompt, const std::string& seed) const {
    return files(prompt, seed, rows_.empty() ? words_of(prompt) : PairWords());
  }

  /// What was skipped so far, sorted by path.
  [[nodiscard]] std::vector<SkippedPair> damage() const {
    const std::scoped_lock lock(damage_->mutex);
    std::vector<SkippedPair> list;
    for (const auto& [path, reason] : damage_->reasons) list.push_back({path, reason});
    return list;
  }

 private:
  struct Damage {
    std::mutex mutex;
    std::map<std::string, std::string> reasons;
  };

  PairFolder() = default;

  static PairFolder open_image_folder(const std::filesystem::path& path, const PairFolderOptions& options) {
    static constexpr std::array<std::pair<PairSplit, const char*>, 3> folders{
        {{PairSplit::train, "train"}, {PairSplit::validation, "validation"}, {PairSplit::test, "test"}}};
    PairFolder folder;
    folder.path_ = path;
    folder.options_ = options;
    if (std::filesystem::exists(path / detail::image_folder_list)) {
      folder.rows_ = detail::read_image_folder(path, 0);
    } else {
      for (const auto& [split, name] : folders) {
        if (options.split != split && options.split != PairSplit::all) continue;
        if (!std::filesystem::exists(path / name / detail::image_folder_list)) continue;
        folder.rows_.merge(detail::read_image_folder(path / name, static_cast<std::int64_t>(folder.rows_.size())));
      }
      folder.options_.split = PairSplit::all;
    }
    std::vector<PromptSeeds> all;
    for (const auto& [id, row] : folder.rows_) {
      const auto slash = id.find('/');
      const auto prompt = id.substr(0, slash);
      if (all.empty() || all.back().prompt != prompt) all.push_back({prompt, {}});
      all.back().seeds.push_back(id.substr(slash + 1));
    }
    const auto [first, end] = split_range(folder.options_.split, static_cast<std::int64_t>(all.size()));
    folder.prompts_.assign(std::move_iterator(all.begin() + first), std::move_iterator(all.begin() + end));
    return folder;
  }

  [[nodiscard]] PairWords words_of(const std::string& prompt) const {
    const auto path = path_ / prompt / "prompt.json";
    const auto text = detail::file_text(path);
    require(text.has_value(), "{}: cannot open", path.string());
    return parse_pair_words(*text, path.string());
  }

  [[nodiscard]] PairFiles files(const std::string& prompt, const std::string& seed, PairWords words) const {
    auto id = prompt + "/" + seed;
    const auto read = [](const std::filesystem::path& path) {
      return PictureFile{path.string(), detail::read_picture_file(path, {})};
    };
    if (!rows_.empty()) {
      const auto row = rows_.find(id);
      require(row != rows_.end(), "pair folder '{}': expected a pair of the list, found '{}'", path_.string(), id);
      return {read(row->second.before), read(row->second.after), row->second.words, std::move(id)};
    }
    const auto picture = [&](const char* which) {
      for (const auto extension : detail::pair_extensions) {
        const auto path = path_ / prompt / (seed + which + std::string(extension));
        std::error_code ignored;
        if (std::filesystem::exists(path, ignored)) return read(path);
      }
      throw_error("{}.jpg: no such file, nor as .jpeg, .png or .webp", (path_ / prompt / (seed + which)).string());
    };
    return {picture("_0"), picture("_1"), std::move(words), std::move(id)};
  }

  void note(const std::string& path, const std::string& reason) const {
    const std::scoped_lock lock(damage_->mutex);
    damage_->reasons.emplace(path, reason);
    require(static_cast<std::int64_t>(damage_->reasons.size()) <= options_.largest_damage,
            "pair folder '{}': expected at most {} damaged places, found {}, the last: {}", path_.string(),
            options_.largest_damage, damage_->reasons.size(), reason);
  }

  std::filesystem::path path_;
  PairFolderOptions options_;
  std::vector<PromptSeeds> prompts_;
  std::map<std::string, detail::ImageFolderRow> rows_;  ///< Of an image folder, by "prompt/seed"; else empty.
  std::shared_ptr<Damage> damage_ = std::make_shared<Damage>();
};
static_assert(NamedPictureSource<const PairFolder>);

}  // namespace ip2p
