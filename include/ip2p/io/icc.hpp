#pragma once

/// \file
/// Colours of pictures with a profile, converted to sRGB by lcms2, if it is installed.
///
/// `IP2P_HAS_LCMS` is 1 if profiles are converted. The project's build sets it to match the library that is linked; if
/// it is not set, it is 1 when the header is found.

#include <ip2p/io/exif.hpp>
#include <ip2p/io/png_chunks.hpp>

#ifndef IP2P_HAS_LCMS
#if __has_include(<lcms2.h>)
#define IP2P_HAS_LCMS 1
#else
#define IP2P_HAS_LCMS 0
#endif
#endif

#if IP2P_HAS_LCMS
#include <lcms2.h>

#include <memory>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// What a profile's header says: its colour space ("RGB ", "GRAY", "CMYK"...), or "" if it is damaged.
inline std::string_view icc_space(std::span<const std::byte> icc) {
  const std::string_view bytes(reinterpret_cast<const char*>(icc.data()), icc.size());
  if (bytes.size() < 132 || bytes.substr(36, 4) != "acsp") return {};
  return bytes.substr(16, 4);
}

/// The data of a profile's tag, or "" if it has none.
inline std::string_view icc_tag(std::span<const std::byte> icc, std::string_view tag) {
  const std::string_view bytes(reinterpret_cast<const char*>(icc.data()), icc.size());
  if (icc_space(icc).empty()) return {};
  const std::size_t count = std::min<std::size_t>(big_endian<4>(bytes, 128), (bytes.size() - 132) / 12);
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = bytes.substr(132 + i * 12, 12);
    if (entry.substr(0, 4) != tag) continue;
    const std::size_t offset = big_endian<4>(entry, 4), size = big_endian<4>(entry, 8);
    return offset <= bytes.size() && size <= bytes.size() - offset ? bytes.substr(offset, size) : std::string_view();
  }
  return {};
}

/// A profile's own name, printable, or "without a name". Sources: ICC.1:2001-04 6.5.17 (a text), ICC.1:2010 10.13
/// (texts in UTF-16).
inline std::string icc_name(std::span<const std::byte> icc) {
  const auto tag = icc_tag(icc, "desc");
  std::string name;
  if (tag.starts_with("desc") && tag.size() > 12) {
    name = tag.substr(12, std::min<std::size_t>(big_endian<4>(tag, 8), 100));
  } else if (tag.starts_with("mluc") && tag.size() >= 28) {
    const std::size_t size = big_endian<4>(tag, 20), offset = big_endian<4>(tag, 24);
    if (offset <= tag.size() && size <= tag.size() - offset) {
      for (std::size_t i = 1; i < std::min<std::size_t>(size, 200); i += 2) name += tag[offset + i];
    }
  }
  std::erase_if(name, [](char c) { return c < ' ' || c > '~'; });
  return name.empty() ? "without a name" : "'" + name + "'";
}

/// Whether the colorants of an RGB profile are those of sRGB, adapted to D50.
inline bool has_srgb_colorants(std::span<const std::byte> icc) {
  constexpr double srgb[3][3] = {{0.4361, 0.2225, 0.0139}, {0.3851, 0.7169, 0.0971}, {0.1431, 0.0606, 0.7141}};
  constexpr std::string_view tags[3] = {"rXYZ", "gXYZ", "bXYZ"};
  for (int colorant = 0; colorant < 3; ++colorant) {
    const auto tag = icc_tag(icc, tags[colorant]);
    if (tag.size() < 20) return false;
    for (int axis = 0; axis < 3; ++axis) {
      const auto number = static_cast<std::int32_t>(big_endian<4>(tag, 8 + 4 * static_cast<std::size_t>(axis)));
      if (std::abs(number / 65536.0 - srgb[colorant][axis]) > 0.003) return false;
    }
  }
  return true;
}

#if IP2P_HAS_LCMS

/// A conversion of 8-bit pixels to sRGB. Each has a context of its own, so threads may read pictures at once.
class ToSrgb {
 public:
  /// \param cmyk pixels are 4 bytes of CMYK, inverted as in JPEG files, else RGB or (for a gray profile) gray
  ToSrgb(std::span<const std::byte> icc, bool cmyk) {
    const auto* context = context_.get();
    const Profile from(cmsOpenProfileFromMemTHR(context_.get(), icc.data(), static_cast<cmsUInt32Number>(icc.size())),
                       cmsCloseProfile);
    const Profile srgb(cmsCreate_sRGBProfileTHR(context_.get()), cmsCloseProfile);
    if (context == nullptr || from == nullptr || srgb == nullptr) return;
    // As a number: a damaged profile holds values that are none of the enumeration.
    const auto space = static_cast<cmsUInt32Number>(cmsGetColorSpace(from.get()));
    gray_ = space == cmsSigGrayData;
    if (cmyk ? space != cmsSigCmykData : !gray_ && space != cmsSigRgbData) return;
    const auto type = cmyk ? TYPE_CMYK_8_REV : gray_ ? TYPE_GRAY_8 : TYPE_RGB_8;
    transform_.reset(
        cmsCreateTransformTHR(context_.get(), from.get(), type, srgb.get(), TYPE_RGB_8, INTENT_PERCEPTUAL, 0));
  }

  /// False for a profile that is damaged or belongs to another kind of pixels.
  explicit operator bool() const { return transform_ != nullptr; }

  /// Whether it is so close to leaving RGB as it is that it only adds rounding: by at most 2 of 255 in a grid of
  /// colours.
  [[nodiscard]] bool changes_nothing() const {
    std::vector<std::uint8_t> before;
    constexpr int steps = 9;
    for (int i = 0; i < steps * steps * steps; ++i) {
      for (const int level : {i / (steps * steps), i / steps % steps, i % steps}) {
        before.push_back(static_cast<std::uint8_t>((gray_ ? i % steps : level) * 255 / (steps - 1)));
      }
    }
    auto after = before;
    rgb(after.data(), after.size() / 3);
    return std::equal(before.begin(), before.end(), after.begin(), [](int a, int b) { return std::abs(a - b) <= 2; });
  }

  /// Converts RGB pixels in place.
  void rgb(std::uint8_t* pixels, std::size_t count) const {
    constexpr std::size_t most = std::size_t{1} << 16;
    std::vector<std::uint8_t> levels;
    for (std::size_t begin = 0; begin < count; begin += most) {
      const std::size_t part = std::min(most, count - begin);
      std::uint8_t* first = pixels + begin * 3;
      if (gray_) {
        levels.resize(part);
        for (std::size_t i = 0; i < part; ++i) levels[i] = first[i * 3];
      }
      cmsDoTransform(transform_.get(), gray_ ? levels.data() : first, first, static_cast<cmsUInt32Number>(part));
    }
  }

  /// Converts inverted CMYK pixels.
  void cmyk(const std::uint8_t* pixels, std::uint8_t* rgb, std::size_t count) const {
    cmsDoTransform(transform_.get(), pixels, rgb, static_cast<cmsUInt32Number>(count));
  }

  /// Whether the profile is one for gray pictures.
  [[nodiscard]] bool is_gray() const { return gray_; }

 private:
  using Profile = std::unique_ptr<std::remove_pointer_t<cmsHPROFILE>, decltype(&cmsCloseProfile)>;
  using Transform = std::unique_ptr<std::remove_pointer_t<cmsHTRANSFORM>, decltype(&cmsDeleteTransform)>;
  using Context = std::unique_ptr<std::remove_pointer_t<cmsContext>, decltype(&cmsDeleteContext)>;
  Context context_{cmsCreateContext(nullptr, nullptr), cmsDeleteContext};
  Transform transform_{nullptr, cmsDeleteTransform};
  bool gray_ = false;
};

#endif

/// Whether all pixels are gray.
inline bool is_gray(const Image& image) {
  const std::uint8_t* pixel = image.pixels.data();
  for (std::size_t left = image.pixels.size(); left >= 3; left -= 3, pixel += 3) {
    if (pixel[0] != pixel[1] || pixel[1] != pixel[2]) return false;
  }
  return true;
}

/// Converts the colours of `image` from what its profile says to sRGB, or tells `options.warn` why it does not.
inline void convert_to_srgb(Image& image, std::span<const std::byte> icc, std::string_view name,
                            const ReadOptions& options) {
  if (icc.empty() || options.colour == ColourProfile::ignore) return;
  const auto space = icc_space(icc);
  if (space.empty()) {
    return warn(options, fmt::format("{}: the colour profile is damaged; its colours are taken for sRGB", name));
  }
  if (space == "CMYK") return;  // of what the picture was, not of what it is now
#if IP2P_HAS_LCMS
  const ToSrgb to_srgb(icc, false);
  if (!to_srgb || (to_srgb.is_gray() && !is_gray(image))) {
    return warn(options,
                fmt::format("{}: the colour profile {} does not fit the picture; its colours are taken for sRGB", name,
                            icc_name(icc)));
  }
  if (!to_srgb.changes_nothing()) to_srgb.rgb(image.pixels.data(), image.pixels.size() / 3);
#else
  if (space == "RGB " && has_srgb_colorants(icc)) return;
  warn(options, fmt::format("{}: the colours are those of the profile {}, and this build has no lcms2 to convert them; "
                            "they are taken for sRGB",
                            name, icc_name(icc)));
#endif
}

}  // namespace ip2p::detail
