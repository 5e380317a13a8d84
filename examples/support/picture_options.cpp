#include "picture_options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "range.hpp"

namespace example {

/// The colour that `text` names, or nothing.
static std::optional<ip2p::Rgb> colour_of(const std::string& text) {
  if (text == "white") return ip2p::Rgb{255, 255, 255};
  if (text == "black") return ip2p::Rgb{0, 0, 0};
  std::uint32_t value = 0;
  if (text.size() != 7 || text[0] != '#') return {};
  const auto [end, problem] = std::from_chars(text.data() + 1, text.data() + 7, value, 16);
  if (problem != std::errc() || end != text.data() + 7) return {};
  return ip2p::Rgb{static_cast<std::uint8_t>(value >> 16), static_cast<std::uint8_t>(value >> 8),
                   static_cast<std::uint8_t>(value)};
}

static std::string background_name(const std::string& text) {
  return text == "stored" || colour_of(text)
             ? std::string()
             : fmt::format("expected white, black, a colour such as '#80ff00', or stored, found '{}'", text);
}

void add_picture(CLI::App& app, PictureOptions& o) {
  app.add_option("--background", o.background,
                 "what to show where the photograph is transparent: white, black, a colour '#rrggbb', or stored (the "
                 "hidden colours, as in the released program)")
      ->capture_default_str()
      ->check(background_name);
  app.add_flag("--ignore-exif", o.ignore_exif,
               "ignore the orientation in the photograph's metadata, as the released program does");
  app.add_flag("--ignore-profile", o.ignore_profile,
               "treat colours as sRGB whatever the photograph's profile says, as the released program does");
  app.add_option(
         "--max-megapixels", o.max_megapixels,
         "largest photograph in memory, in millions of pixels; JPEG photographs with more are read at 1/2, 1/4 or "
         "1/8 of their size")
      ->capture_default_str()
      ->check(range(0.001, 100000.0));
  app.add_option("--max-file-megapixels", o.max_file_megapixels, "largest JPEG photograph, in millions of pixels")
      ->capture_default_str()
      ->check(range(0.001, 100000.0));
  app.add_option("--max-aspect", o.max_aspect, "largest ratio of a photograph's longer side to the shorter")
      ->capture_default_str()
      ->check(range(1.0, 100000.0));
}

ip2p::ReadOptions reading(const PictureOptions& o) {
  const auto pixels = [](double millions) { return static_cast<std::int64_t>(std::llround(millions * 1e6)); };
  ip2p::ReadOptions options;
  options.max_pixels = pixels(o.max_megapixels);
  options.max_file_pixels = std::max(pixels(o.max_file_megapixels), options.max_pixels);
  options.max_aspect = o.max_aspect;
  options.apply_exif = !o.ignore_exif;
  if (o.background == "stored") {
    options.alpha = ip2p::Alpha::drop;
  } else {
    options.background = colour_of(o.background).value_or(ip2p::Rgb{});
  }
  if (o.ignore_profile) options.colour = ip2p::ColourProfile::ignore;
  options.warn = [](const std::string& sentence) { fmt::print(stderr, "warning: {}\n", sentence); };
  return options;
}

ip2p::Picture read_photo(const std::filesystem::path& path, const PictureOptions& o) {
  return ip2p::read_picture(path, reading(o));
}

ip2p::Image read_mask(const std::filesystem::path& path, const PictureOptions& o, const ip2p::Picture& photo) {
  auto options = reading(o);
  options.max_pixels = options.max_file_pixels;  // what the photograph could have, it may have
  return mask_for(ip2p::read_mask(path, options), photo);
}

ip2p::Image mask_for(ip2p::Image mask, const ip2p::Picture& photo) {
  const auto width = photo.image.width, height = photo.image.height;
  if (mask.width == width && mask.height == height) return mask;
  // The same shape: each side is the photograph's times one factor, to a pixel.
  const double factor = static_cast<double>(mask.width) / static_cast<double>(width);
  const bool same_shape =
      std::abs(static_cast<double>(height) * factor - static_cast<double>(mask.height)) <= std::max(1.0, factor);
  return same_shape ? ip2p::resize(mask, width, height, ip2p::Filter::box) : mask;
}

ip2p::Picture with_alpha_of(const ip2p::Picture& photo, ip2p::Image after, const ip2p::FitRule& rule,
                            const PictureOptions& o) {
  if (photo.alpha.empty()) return {std::move(after), {}};
  ip2p::Image opacity = ip2p::detail::blank_image(static_cast<std::uint64_t>(photo.image.width),
                                                  static_cast<std::uint64_t>(photo.image.height));
  for (std::size_t i = 0; i < photo.alpha.size(); ++i) std::fill_n(opacity.pixels.data() + i * 3, 3, photo.alpha[i]);
  if (after.width != opacity.width || after.height != opacity.height) {
    const auto fitted = ip2p::fit_photo(opacity, rule);
    opacity = ip2p::own_part(fitted, fitted.image);
  }
  ip2p::require(after.width == opacity.width && after.height == opacity.height,
                "alpha: expected a picture of {}x{}, found {}x{}", opacity.width, opacity.height, after.width,
                after.height);
  const auto background = colour_of(o.background).value_or(ip2p::Rgb{});
  const int behind[] = {background.red, background.green, background.blue};
  ip2p::Picture picture{std::move(after), {}};
  for (std::size_t i = 0; i < opacity.pixels.size(); ++i) {
    const int alpha = opacity.pixels[i];
    if (i % 3 == 0) picture.alpha.push_back(opacity.pixels[i]);
    if (alpha == 0 || alpha == 255) continue;
    auto& value = picture.image.pixels[i];
    const double alone = behind[i % 3] + (value - behind[i % 3]) * 255.0 / alpha;
    value = static_cast<std::uint8_t>(std::clamp(std::lround(alone), 0L, 255L));
  }
  return picture;
}

void check_holds_alpha(const std::filesystem::path& out) {
  ip2p::require(ip2p::image_format_for(out) != ip2p::ImageFormat::jpeg,
                "--keep-alpha: expected --out to end in .png or .webp, found '{}'; JPEG has no alpha", out.string());
}

}  // namespace example
