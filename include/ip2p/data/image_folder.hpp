#pragma once

/// \file
/// The image folder of Hugging Face's datasets, which the InstructPix2Pix trainer of diffusers takes: pictures and a
/// metadata.jsonl with a line for each pair.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/data/seed_list.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// The list of an image folder's pairs.
inline constexpr const char* image_folder_list = "metadata.jsonl";

/// A pair of an image folder.
struct ImageFolderRow {
  std::filesystem::path before, after;
  PairWords words;
};

/// Whether `path`, or its folder of a split, has a list of pairs.
inline bool is_image_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  for (const char* split : {"", "train", "validation", "test"}) {
    if (std::filesystem::exists(path / split / image_folder_list, ignored)) return true;
  }
  return false;
}

/// The text under the first of `keys` that `json` has; empty if it has none and none is needed.
template <std::size_t N>
std::string image_folder_text(const nlohmann::json& json, const std::array<const char*, N>& keys, bool needed,
                              const std::string& where) {
  for (const char* key : keys) {
    const auto found = json.find(key);
    if (found == json.end() || (!needed && found->is_null())) continue;
    require(found->is_string(), "{}: {}: expected a text, found {}", where, key, json_text(*found));
    return found->get<std::string>();
  }
  require(!needed, "{}: expected a text '{}', found none", where, keys.front());
  return {};
}

/// The pairs of a folder's metadata.jsonl by "prompt/seed". Pictures that are called "{prompt}/{seed}_0.jpg", as
/// `write_image_folder` calls them, keep that name; others are prompts of their own, numbered from `first`.
///
/// Columns are those of the published set (`original_image_file_name`, `edit_prompt`, `edited_image_file_name`, and, if
/// there are any, `original_prompt` and `edited_prompt`), or those of diffusers' examples (`input_image_file_name`).
/// \throws Error naming the line, for what is not JSON, lacks a column, or names a picture outside of the folder
inline std::map<std::string, ImageFolderRow> read_image_folder(const std::filesystem::path& folder,
                                                               std::int64_t first) {
  const auto list = folder / image_folder_list;
  const auto text = file_text(list);
  require(text.has_value(), "{}: cannot open", list.string());
  std::map<std::string, ImageFolderRow> rows;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text->size();) {
    const auto end = std::min(text->find('\n', begin), text->size());
    const std::string_view line(text->data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto where = fmt::format("{}:{}", list.string(), number);
    nlohmann::json json;
    try {
      json = parse_json(line);
    } catch (const nlohmann::json::exception& error) {
      throw_error("{}: expected JSON, found {}", where, json_fault(error));
    }
    require(json.is_object(), "{}: expected an object, found {}", where, json_text(json));
    const auto picture = [&](const auto& keys) {
      const std::filesystem::path name(image_folder_text(json, keys, true, where));
      bool inside = !name.empty() && !name.is_absolute();
      for (const auto& part : name) inside = inside && part != "..";
      require(inside, "{}: {}: expected the name of a picture in the folder, found '{}'", where, keys.front(),
              printable(name.string()));
      return name;
    };
    const auto before = picture(std::array{"original_image_file_name", "input_image_file_name"});
    const auto after = picture(std::array{"edited_image_file_name", "output_image_file_name"});
    ImageFolderRow row{
        folder / before,
        folder / after,
        {image_folder_text(json, std::array{"edit_prompt", "instruction"}, true, where),
         image_folder_text(json, std::array{"original_prompt", "input_prompt"}, false, where),
         image_folder_text(json, std::array{"edited_prompt", "output_prompt"}, false, where), std::string()}};
    const auto prompt = before.parent_path().string();
    const auto seed = pair_seed(before.filename().string());
    const bool ours = is_pair_name(prompt) && !seed.empty() && before.stem().string().ends_with("_0");
    const auto id =
        ours ? prompt + "/" + seed : fmt::format("{:07d}/0", first + static_cast<std::int64_t>(rows.size()));
    require(rows.emplace(id, std::move(row)).second, "{}: expected each pair once, found another '{}'", where,
            before.string());
  }
  require(!rows.empty(), "{}: expected a line for each pair, found none", list.string());
  return rows;
}

}  // namespace ip2p::detail
