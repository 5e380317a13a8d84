#pragma once

/// \file
/// Converts the published folder layout to an image folder for Hugging Face's `datasets`.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/make_folder.hpp"

namespace ip2p {

/// Settings of `write_image_folder`.
struct ImageFolderOptions {
  bool decode = true;                 ///< Decode every picture to keep only intact pairs.
  std::int64_t largest_damage = 100;  ///< Pairs that may be skipped before the conversion gives up.
  /// Told after each pair how many are done, of how many.
  std::function<void(std::int64_t done, std::int64_t count)> on_pair = {};
  std::stop_token stop = {};  ///< A requested stop throws `Cancelled`; pictures copied so far are reused next time.
};

/// Result of a conversion.
struct ImageFolderReport {
  std::int64_t pairs = 0;            ///< Pairs of the split that were copied, or were there already.
  std::vector<SkippedPair> skipped;  ///< Pairs left out, and why.
};

namespace detail {

/// Copies a picture unless it already exists.
inline void copy_picture(const PictureFile& picture, const std::filesystem::path& to) {
  std::error_code absent;
  if (std::filesystem::file_size(to, absent) == picture.bytes.size() && !absent) return;
  write_file_atomically(to, picture.bytes);
}

/// A line of metadata.jsonl; `datasets` turns each key that ends in `_file_name` into an image column.
/// \param before, after names of the pictures in the image folder
inline std::string image_folder_line(const std::string& before, const std::string& after, const PairWords& words) {
  const nlohmann::ordered_json json{{"original_prompt", words.input},
                                    {"original_image_file_name", before},
                                    {"edit_prompt", words.instruction},
                                    {"edited_prompt", words.output},
                                    {"edited_image_file_name", after}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace detail

/// Copies the pairs of `folder` (only its split) to `{out}/{prompt}/`, pictures' bytes and extensions unchanged, and
/// writes `{out}/metadata.jsonl` last, from which `datasets` loads them into the columns of the published set:
/// original_prompt, original_image, edit_prompt, edited_prompt, edited_image. An interrupted run resumes where it
/// stopped. Damaged pairs are left out and listed. No other process may write to `out`, as `FolderLock` can ensure.
/// \throws Error when more than `largest_damage` pairs are damaged, when no pair is left, and on I/O failure; Cancelled
///   on a requested stop
inline ImageFolderReport write_image_folder(const PairFolder& folder, const std::filesystem::path& out,
                                            const ImageFolderOptions& options = {}) {
  std::int64_t count = 0, done = 0;
  for (const auto& entry : folder.prompts()) count += static_cast<std::int64_t>(entry.seeds.size());
  require(count > 0, "image folder: expected at least one pair in '{}', found none", folder.path().string());
  make_folder(out);
  const auto list = out / "metadata.jsonl";
  remove_temporaries_of(list);
  AtomicFile file(list);
  ImageFolderReport report;
  for (const auto& entry : folder.prompts()) {
    if (!entry.seeds.empty()) {
      make_folder(out / entry.prompt);
      remove_temporaries_in(out / entry.prompt);
    }
    for (const auto& seed : entry.seeds) {
      if (options.stop.stop_requested())
        throw Cancelled(fmt::format("cancelled before pair {} of {}", done + 1, count));
      const auto id = entry.prompt + "/" + seed;
      ++done;
      PairFiles files;
      try {
        files = folder.files(entry.prompt, seed);
        if (options.decode) static_cast<void>(decode_pair(files));
      } catch (const Error& error) {
        report.skipped.push_back({(folder.path() / id).string(), error.what()});
        require(static_cast<std::int64_t>(report.skipped.size()) <= options.largest_damage,
                "image folder: expected at most {} damaged pairs, found {}, the last: {}", options.largest_damage,
                report.skipped.size(), error.what());
        continue;
      }
      const auto before = id + "_0" + std::filesystem::path(files.before.name).extension().string();
      const auto after = id + "_1" + std::filesystem::path(files.after.name).extension().string();
      detail::copy_picture(files.before, out / before);
      detail::copy_picture(files.after, out / after);
      const auto line = detail::image_folder_line(before, after, files.words);
      file.write(std::as_bytes(std::span(line)));
      ++report.pairs;
      if (options.on_pair) options.on_pair(done, count);
    }
  }
  if (report.pairs == 0) {
    throw_error("image folder: expected a sound pair in '{}', found none; the first: {}", folder.path().string(),
                report.skipped.front().reason);
  }
  file.commit();
  return report;
}

}  // namespace ip2p
