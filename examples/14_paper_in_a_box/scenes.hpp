#pragma once

/// \file
/// Pictures of the small world: a cut-out on a photograph, under a look.

#include <ATen/ATen.h>
#include <ATen/ops/flip.h>
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "02_train_small_editor/edits.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/json_whole.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/train/export.hpp"
#include "vocabulary.hpp"

namespace small_world {

/// A picture with its opacity at each pixel.
struct CutOut {
  ip2p::Image colours;  ///< Times opacity, so that resampling does not bleed in invisible colours.
  ip2p::Image opacity;  ///< Three equal channels.
};

/// Reads a PNG file with its alpha channel. \throws Error when it cannot be read
inline CutOut read_cut_out(const std::filesystem::path& path) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  ip2p::require(png_image_begin_read_from_file(&header, path.c_str()) != 0, "{}: expected a PNG file: {}",
                path.string(), header.message);
  header.format = PNG_FORMAT_RGBA;
  std::vector<std::uint8_t> rgba(PNG_IMAGE_SIZE(header));
  ip2p::require(png_image_finish_read(&header, nullptr, rgba.data(), 0, nullptr) != 0, "{}: damaged PNG file: {}",
                path.string(), header.message);
  CutOut result{{header.width, header.height, {}}, {header.width, header.height, {}}};
  for (std::size_t i = 0; i < rgba.size(); i += 4) {
    const unsigned alpha = rgba[i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      result.colours.pixels.push_back(static_cast<std::uint8_t>((rgba[i + c] * alpha + 127) / 255));
      result.opacity.pixels.push_back(static_cast<std::uint8_t>(alpha));
    }
  }
  return result;
}

/// Everything that scenes are drawn from. A value; pictures are kept at about twice the size at which they are needed.
class World {
 public:
  /// \param stamps and \param photographs folders that the words' files are in  \param side of the pictures in pixels
  World(Vocabulary vocabulary, std::filesystem::path stamps, std::filesystem::path photographs, std::int64_t side)
      : vocabulary_(std::move(vocabulary)),
        stamps_(std::move(stamps)),
        photographs_(std::move(photographs)),
        side_(side) {
    for (const auto& word : vocabulary_.of(object)) objects_.push_back(smaller(read_cut_out(stamps_ / word.file)));
    for (const auto& word : vocabulary_.of(place)) {
      const auto photo = ip2p::read_image(photographs_ / word.file);
      places_.push_back(ip2p::fit(photo, 2 * side_, 2 * side_, ip2p::Filter::lanczos));
    }
    for (const auto& word : vocabulary_.of(look)) edits_.push_back(edit_called(word.edit));
  }

  /// Opens what `save` wrote.
  static World open(const std::filesystem::path& folder) {
    const auto path = folder / "world.json";
    const auto json = ip2p::detail::read_json_file(path);
    try {
      return {Vocabulary(json.at("words"), path.string()), json.at("stamps").get<std::string>(),
              json.at("photographs").get<std::string>(), ip2p::detail::json_whole<std::int64_t>(json.at("side"))};
    } catch (const nlohmann::json::exception& error) {
      ip2p::throw_error("{}: expected what `small_world scenes` writes: {}", path.string(), error.what());
    }
  }

  void save(const std::filesystem::path& folder) const {
    const auto whole = [](const auto& path) { return std::filesystem::absolute(path).string(); };
    ip2p::write_json(folder / "world.json", {{"words", vocabulary_.to_json()},
                                             {"stamps", whole(stamps_)},
                                             {"photographs", whole(photographs_)},
                                             {"side", side_}});
  }

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

  /// The pictures of the objects and of the places, in the order of the words.
  [[nodiscard]] std::vector<std::filesystem::path> stamps() const { return files_of(object, stamps_); }
  [[nodiscard]] std::vector<std::filesystem::path> photographs() const { return files_of(place, photographs_); }

  [[nodiscard]] std::int64_t side() const { return side_; }

  /// One scene. What is not said - crop, exact place and size, mirroring - comes from `random` and is the same for all
  /// words, so that two captions give one scene before and after an edit.
  [[nodiscard]] ip2p::Image draw(const Words& words, ip2p::SampleRandom random) const {
    const double zoom = random.uniform(0.85, 1.0), across = random.uniform(), down = random.uniform();
    const bool mirrored = random.uniform() < 0.5, turned = random.uniform() < 0.5;
    const double growth = random.uniform(0.93, 1.07), shift = random.uniform(-0.04, 0.04);
    const double ground = random.uniform(0.88, 0.95);

    const auto& photo = places_[words[place]];
    const auto window = static_cast<float>(zoom * static_cast<double>(photo.width));
    const auto rest = static_cast<float>(photo.width) - window;
    const auto left = static_cast<float>(across) * rest, top = static_cast<float>(down) * rest;
    const auto crop = ip2p::Box{left, top, std::min(left + window, static_cast<float>(photo.width)),
                                std::min(top + window, static_cast<float>(photo.height))};
    auto canvas = pixels(ip2p::resize(photo, side_, side_, ip2p::Filter::lanczos, crop), mirrored);

    const auto& thing = objects_[words[object]];
    const double longest = std::min(1.0, vocabulary_.word(size, words).number * growth) * static_cast<double>(side_);
    const double scale = longest / static_cast<double>(std::max(thing.colours.width, thing.colours.height));
    const auto [width, height] = scaled(thing, scale);
    const auto resized = [&, w = width, h = height](const ip2p::Image& image) {
      return pixels(ip2p::resize(image, w, h, ip2p::Filter::lanczos), turned);
    };
    const auto centre = (vocabulary_.word(position, words).number + shift) * static_cast<double>(side_);
    const auto x = std::clamp<std::int64_t>(std::lround(centre - 0.5 * static_cast<double>(width)), 0, side_ - width);
    const auto y =
        std::clamp<std::int64_t>(std::lround(ground * static_cast<double>(side_)) - height, 0, side_ - height);
    auto below = canvas.narrow(1, y, height).narrow(2, x, width);
    below.copy_((below * (1 - resized(thing.opacity)) + resized(thing.colours)).clamp(0, 1));

    if (const auto apply = edits_[words[look]]) canvas = apply(canvas);
    return ip2p::from_tensor((canvas * 255).round().to(at::kByte));
  }

 private:
  [[nodiscard]] std::vector<std::filesystem::path> files_of(std::size_t kind,
                                                            const std::filesystem::path& folder) const {
    std::vector<std::filesystem::path> files;
    for (const auto& word : vocabulary_.of(kind)) files.push_back(folder / word.file);
    return files;
  }

  using Edit = at::Tensor (*)(const at::Tensor&);

  static Edit edit_called(const std::string& name) {
    if (name.empty()) return nullptr;
    const auto& families = small_editor::edit_families();
    const auto found = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
    ip2p::require(found != families.end(), "vocabulary: looks: expected the name of a computed edit, found '{}'", name);
    return found->apply;
  }

  static std::pair<std::int64_t, std::int64_t> scaled(const CutOut& thing, double scale) {
    const auto length = [scale](std::int64_t pixels) {
      return std::max<std::int64_t>(1, std::lround(scale * static_cast<double>(pixels)));
    };
    return {length(thing.colours.width), length(thing.colours.height)};
  }

  /// At most twice the side of the scenes.
  [[nodiscard]] CutOut smaller(CutOut thing) const {
    const double scale =
        static_cast<double>(2 * side_) / static_cast<double>(std::max(thing.colours.width, thing.colours.height));
    if (scale >= 1) return thing;
    const auto [width, height] = scaled(thing, scale);
    return {ip2p::resize(thing.colours, width, height, ip2p::Filter::lanczos),
            ip2p::resize(thing.opacity, width, height, ip2p::Filter::lanczos)};
  }

  /// float [3,H,W] in [0,1]
  static at::Tensor pixels(const ip2p::Image& image, bool mirrored) {
    const auto values = ip2p::to_tensor(image).to(at::kFloat) / 255;
    return mirrored ? at::flip(values, {2}) : values;
  }

  Vocabulary vocabulary_;
  std::filesystem::path stamps_, photographs_;
  std::int64_t side_;
  std::vector<CutOut> objects_;
  std::vector<ip2p::Image> places_;
  std::vector<Edit> edits_;
};

}  // namespace small_world
