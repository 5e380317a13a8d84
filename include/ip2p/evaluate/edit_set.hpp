#pragma once

/// \file
/// Sets of photographs with captions, instructions and edited captions, on which editors are compared.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/sha.hpp"
#include "ip2p/io/text_line.hpp"
#include "ip2p/pipeline/numerics.hpp"

namespace ip2p {

/// One edit, as passed to every method and metric.
struct PreparedEdit {
  std::string id;              ///< Unique within its set.
  at::Tensor photograph = {};  ///< [1,3,H,W], fp32 in [-1,1], at the size used for editing.
  PairWords words = {};        ///< The instruction, and the captions before and after.
  std::uint64_t seed = 0;      ///< Seed of all its noise, the same for every method and point.
};

/// How many photographs of an `EditSet` to use, and how to prepare them.
struct EditSetOptions {
  std::optional<std::int64_t> resolution = {};  ///< Long side in pixels; see `edit_size`.
  Numerics numerics = Numerics::released;       ///< Whose size rule and rounding apply to the photographs.
  std::uint64_t seed = 0;                       ///< Edit i has the seed `seed` + i; also selects each prompt's pair.
  std::int64_t limit = 0;                       ///< Use only the first so many edits; 0: all.
};

/// Edits by index. Pictures are read on demand; the same index always gives the same edit.
class EditSet {
 public:
  /// Reads a file of JSON lines with `file`, the photograph's path relative to `pictures`, and the words of a
  /// prompt.json (`parse_pair_words`): input, edit, output.
  /// \throws Error naming the malformed line or the missing photograph
  static EditSet from_list(const std::filesystem::path& list, const std::filesystem::path& pictures,
                           const EditSetOptions& options = {}) {
    std::ifstream file(list, std::ios::binary);
    require(file.good(), "{}: cannot open", list.string());
    List found{pictures, {}};
    std::string text;
    std::int64_t number = 0;
    for (std::string line; std::getline(file, line);) {
      text += line + "\n";
      ++number;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const auto where = fmt::format("{}, line {}", list.string(), number);
      detail::require_text(line, where);
      auto words = parse_pair_words(line, where);
      const auto json = detail::parse_json(line);
      require(json.contains("file") && json.at("file").is_string(), "{}: expected the text file, found none", where);
      found.edits.push_back({json.at("file").get<std::string>(), std::move(words)});
    }
    detail::require_read(file, list);
    require(!found.edits.empty(), "{}: expected at least one line, found none", list.string());
    EditSet set(options, std::move(found));
    set.fingerprint_ = "list " + detail::text_checksum(text);
    for (std::int64_t i = 0; i < set.size(); ++i) {
      const auto picture = pictures / std::get<List>(set.source_).edits[static_cast<std::size_t>(i)].file;
      require(std::filesystem::exists(picture), "{}: names a photograph that is not there: '{}'", list.string(),
              picture.string());
    }
    return set;
  }

  /// Uses the published layout: one pair per prompt, whose first picture is edited. Damaged pairs are skipped as in
  /// training.
  static EditSet from_pairs(PairFolder pairs, const EditSetOptions& options = {}) {
    require(pairs.size() > 0, "pair folder '{}': expected prompts in this split, found none", pairs.path().string());
    EditSet set(options, std::move(pairs));
    std::string ids;
    for (std::int64_t i = 0; i < set.all(); ++i) ids += set.id(i) + "\n";
    set.fingerprint_ = "pairs " + detail::text_checksum(ids);
    return set;
  }

  /// Edits in the set, at most `EditSetOptions::limit`.
  [[nodiscard]] std::int64_t size() const { return options_.limit > 0 ? std::min(options_.limit, all()) : all(); }

  /// Name of edit `i`: its number and the photograph's name.
  [[nodiscard]] std::string id(std::int64_t i) const {
    const auto name = std::holds_alternative<List>(source_)
                          ? std::get<List>(source_).edits.at(static_cast<std::size_t>(i)).file
                          : std::get<PairFolder>(source_).id(choice(i));
    return fmt::format("{}: {}", i, name);
  }

  /// Equal for sets of the same names in the same order, and of a list with the same words, regardless of their limit.
  /// What the photographs show is left to `content`.
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }

  /// A digest of what edit `i` is made of, wherever that lies: the photograph's file, and of a pair the result and the
  /// words as well. Empty where these cannot be read. \param i from 0 to size() - 1
  [[nodiscard]] std::string content(std::int64_t i) const {
    detail::Sha256 sum;
    if (const auto* list = std::get_if<List>(&source_)) {
      const auto bytes = detail::file_text(list->pictures / list->edits.at(static_cast<std::size_t>(i)).file);
      if (!bytes) return {};
      sum.add(std::as_bytes(std::span(*bytes)));
    } else {
      try {
        const auto& pairs = std::get<PairFolder>(source_);
        const auto id = pairs.id(choice(i));
        const auto slash = id.find('/');
        const auto files = pairs.files(id.substr(0, slash), id.substr(slash + 1));
        const auto words = pair_words_json(files.words).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        for (const auto bytes : {std::span<const std::byte>(files.before.bytes),
                                 std::span<const std::byte>(files.after.bytes), std::as_bytes(std::span(words))}) {
          sum.add(bytes);
        }
      } catch (const Error&) {
        return {};
      }
    }
    return sum.finish().substr(0, 16);
  }

  /// \param i from 0 to size() - 1  \throws Error for pictures that cannot be read
  [[nodiscard]] PreparedEdit get(std::int64_t i) const {
    require(i >= 0 && i < size(), "edits: expected a number below {}, found {}", size(), i);
    PreparedEdit edit{.id = id(i), .seed = options_.seed + static_cast<std::uint64_t>(i)};
    Image photograph;
    if (const auto* list = std::get_if<List>(&source_)) {
      const auto& entry = list->edits[static_cast<std::size_t>(i)];
      photograph = read_image(list->pictures / entry.file);
      edit.words = entry.words;
    } else {
      auto pair = std::get<PairFolder>(source_).read(choice(i));
      photograph = std::move(pair.before);
      edit.words = {pair.instruction, pair.input, pair.output, ""};
    }
    edit.photograph = prepare_photos({&photograph, 1}, options_.resolution, options_.numerics);
    return edit;
  }

 private:
  struct ListedEdit {
    std::string file;
    PairWords words;
  };
  struct List {
    std::filesystem::path pictures;
    std::vector<ListedEdit> edits;
  };
  using Source = std::variant<List, PairFolder>;

  EditSet(const EditSetOptions& options, Source source) : options_(options), source_(std::move(source)) {
    require(options.limit >= 0, "edits: limit: expected 0 or more, found {}", options.limit);
  }

  [[nodiscard]] std::int64_t all() const {
    const auto* list = std::get_if<List>(&source_);
    return list != nullptr ? static_cast<std::int64_t>(list->edits.size()) : std::get<PairFolder>(source_).size();
  }
  [[nodiscard]] PairChoice choice(std::int64_t i) const {
    SampleRandom random(options_.seed, 0, static_cast<std::uint64_t>(i));
    return std::get<PairFolder>(source_).choose(i, random);
  }

  EditSetOptions options_;
  Source source_;
  std::string fingerprint_;
};

}  // namespace ip2p
