#pragma once

/// \file
/// Concepts for sources of picture pairs: original, edited picture and words; decoded but not yet augmented.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/json_field.hpp"

namespace ip2p {

/// The words of a pair.
struct PairWords {
  std::string instruction;    ///< May be empty.
  std::string input, output;  ///< Captions of the original and the edited picture.
  std::string url;            ///< Source of the input's caption; empty if unknown.

  friend bool operator==(const PairWords&, const PairWords&) = default;
};

/// One pair of pictures.
struct PairPictures {
  Image before, after;                     ///< The two pictures.
  std::string instruction, input, output;  ///< See `PairWords`.
  std::string id;                          ///< "prompt/seed".

  friend bool operator==(const PairPictures&, const PairPictures&) = default;
};

/// A collection of `size()` prompts, each with one or more pairs that share its words.
///
///     std::int64_t size();
///     ip2p::PairPictures get(std::int64_t i, ip2p::SampleRandom& random);  // one of the pairs of prompt i
///
/// Laws: `get` is a function of i and of the numbers it draws; it may be called from several threads.
template <class Source>
concept PictureSource = requires(Source& source, std::int64_t i, SampleRandom& random) {
  { source.size() } -> std::convertible_to<std::int64_t>;
  { source.get(i, random) } -> std::convertible_to<PairPictures>;
};

/// Stops compilation with one sentence unless `Source` is a `PictureSource`.
template <class Source>
consteval void require_picture_source() {
  static_assert(
      PictureSource<Source>,
      "ip2p: PictureSource needs `std::int64_t size()` and `PairPictures get(std::int64_t i, SampleRandom&)`; "
      "see docs/reference/concepts.md#picturesource");
}

/// Selects one of a prompt's pairs without reading it.
struct PairChoice {
  std::int64_t prompt = 0;
  double u = 0.0;  ///< Uniform in [0, 1): selects pair floor(u n) of the prompt's n.

  /// Index of the selected pair. \param count number of pairs, > 0
  [[nodiscard]] std::size_t of(std::size_t count) const {
    return std::min(static_cast<std::size_t>(u * static_cast<double>(count)), count - 1);
  }
};

/// A `PictureSource` that can name a pair before reading it, so that cached results can be looked up.
///
///     ip2p::PairChoice choose(std::int64_t i, ip2p::SampleRandom& random);
///     std::string id(const ip2p::PairChoice& choice);
///     ip2p::PairPictures read(const ip2p::PairChoice& choice);
///
/// Laws: `get(i, random)` equals `read(choose(i, random))`; `read(choice).id` is `id(choice)` unless that pair is
/// damaged and another took its place.
template <class Source>
concept NamedPictureSource = PictureSource<Source> &&
    requires(Source& source, std::int64_t i, SampleRandom& random, const PairChoice& choice) {
  { source.choose(i, random) } -> std::convertible_to<PairChoice>;
  { source.id(choice) } -> std::convertible_to<std::string>;
  { source.read(choice) } -> std::convertible_to<PairPictures>;
};

/// Stops compilation with one sentence unless `Source` is a `NamedPictureSource`.
template <class Source>
consteval void require_named_picture_source() {
  require_picture_source<Source>();
  static_assert(!PictureSource<Source> || NamedPictureSource<Source>,
                "ip2p: NamedPictureSource needs `PairChoice choose(std::int64_t i, SampleRandom&)`, `std::string "
                "id(const PairChoice&)` and `PairPictures read(const PairChoice&)`; see "
                "docs/reference/concepts.md#namedpicturesource");
}

/// A picture file in memory.
struct PictureFile {
  std::string name;              ///< For messages.
  std::vector<std::byte> bytes;  ///< The whole file.
};

/// One pair as stored.
struct PairFiles {
  PictureFile before, after;  ///< The two picture files.
  PairWords words;            ///< Captions and instruction.
  std::string id;             ///< "prompt/seed".
};

/// A pair that could not be used, and why.
struct SkippedPair {
  std::string path;    ///< Where it lies.
  std::string reason;  ///< What is wrong with it, in a sentence.

  friend bool operator==(const SkippedPair&, const SkippedPair&) = default;
};

/// Parses the words of a prompt.json: `edit`, `output`, and the input's caption under `input` (released set) or
/// `caption` (its generator); `url` is optional. \param text of the file  \param where named in errors
/// \throws Error for anything else
inline PairWords parse_pair_words(std::string_view text, std::string_view where) {
  try {
    const auto json = detail::parse_json(text);
    require(json.is_object(), "{}: expected an object with edit, input and output, found {}", where, json.type_name());
    const char* caption = json.contains("input") ? "input" : "caption";
    for (const char* key : {"edit", "output", caption}) {
      require(json.contains(key) && json.at(key).is_string(),
              "{}: expected texts edit, output and input (or caption), found no text {}", where, key);
    }
    return {json.at("edit").get<std::string>(), json.at(caption).get<std::string>(),
            json.at("output").get<std::string>(),
            json.contains("url") && json.at("url").is_string() ? json.at("url").get<std::string>() : std::string()};
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: expected JSON with edit, input and output, found {}", where, detail::json_fault(error));
  }
}

/// The same words under the released set's keys; `parse_pair_words` of its text returns `words`.
inline nlohmann::json pair_words_json(const PairWords& words) {
  nlohmann::json json{{"edit", words.instruction}, {"input", words.input}, {"output", words.output}};
  if (!words.url.empty()) json["url"] = words.url;
  return json;
}

/// Decodes both pictures. EXIF orientation is not applied, as in the released code.
/// \throws Error for damaged pictures, naming the file, and for pictures of different sizes
inline PairPictures decode_pair(const PairFiles& files) {
  const auto options = released_reading();
  PairPictures pair{decode_image(files.before.bytes, files.before.name, options),
                    decode_image(files.after.bytes, files.after.name, options),
                    files.words.instruction,
                    files.words.input,
                    files.words.output,
                    files.id};
  require(pair.before.width == pair.after.width && pair.before.height == pair.after.height,
          "{}: expected {}x{} pixels as {} has, found {}x{}", files.after.name, pair.before.width, pair.before.height,
          files.before.name, pair.after.width, pair.after.height);
  return pair;
}

}  // namespace ip2p
