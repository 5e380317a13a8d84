#pragma once

/// \file
/// Contract of sources of pictures: a photograph, what it became, and the words; decoded, not yet prepared.

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

namespace ip2p {

/// The words of a pair.
struct PairWords {
  std::string instruction;    ///< May be empty.
  std::string input, output;  ///< Captions of the two pictures.
  std::string url;            ///< Where the input's caption came from; empty where unknown.

  friend bool operator==(const PairWords&, const PairWords&) = default;
};

/// One pair of pictures.
struct PairPictures {
  Image before, after;                     ///< The two pictures.
  std::string instruction, input, output;  ///< See `PairWords`.
  std::string id;                          ///< "prompt/seed".

  friend bool operator==(const PairPictures&, const PairPictures&) = default;
};

/// Something that has `size()` prompts, of which each stands for one pair or for several with the same words.
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

/// Explains in one line what a picture source lacks.
template <class Source>
consteval void require_picture_source() {
  static_assert(
      PictureSource<Source>,
      "ip2p: PictureSource needs `std::int64_t size()` and `PairPictures get(std::int64_t i, SampleRandom&)`; "
      "see docs/reference/concepts.md#picturesource");
}

/// One of the pairs of a prompt, before it is read.
struct PairChoice {
  std::int64_t prompt = 0;
  double u = 0.0;  ///< Uniform in [0, 1): the pair floor(u n) of the prompt's n.

  /// \param count > 0 pairs
  [[nodiscard]] std::size_t of(std::size_t count) const {
    return std::min(static_cast<std::size_t>(u * static_cast<double>(count)), count - 1);
  }
};

/// A `PictureSource` that can say which pair it is going to give, so that what was made of it before can be found.
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

/// Explains in one line what a picture source lacks whose pairs shall be found again.
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

/// One pair as it is stored.
struct PairFiles {
  PictureFile before, after;  ///< The two picture files.
  PairWords words;            ///< Captions and instruction.
  std::string id;             ///< "prompt/seed".
};

/// A pair that could not be used.
struct SkippedPair {
  std::string path;    ///< Where it lies.
  std::string reason;  ///< What is wrong with it, in a sentence.

  friend bool operator==(const SkippedPair&, const SkippedPair&) = default;
};

/// The words of a prompt.json: `edit`, `output` and, under `input` (released set) or `caption` (its generator), the
/// input's caption; `url` may be missing. \param text of the file  \param where named in errors
/// \throws Error for anything else
inline PairWords parse_pair_words(std::string_view text, std::string_view where) {
  try {
    const auto json = nlohmann::json::parse(text);
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
    fail("{}: expected JSON with edit, input and output: {}", where, error.what());
  }
}

/// The same words in the released set's spelling; `parse_pair_words` of its text is `words`.
inline nlohmann::json pair_words_json(const PairWords& words) {
  nlohmann::json json{{"edit", words.instruction}, {"input", words.input}, {"output", words.output}};
  if (!words.url.empty()) json["url"] = words.url;
  return json;
}

/// Decodes both pictures. EXIF orientation is not applied, as in the released code.
/// \throws Error for damaged pictures, naming the file, and for pictures of two sizes
inline PairPictures decode_pair(const PairFiles& files) {
  const ReadOptions options{.apply_exif = false};
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
