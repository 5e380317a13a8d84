// What a picture file says of its pixels, apart from the file. An orientation is 1 to 8 for any EXIF and XMP; turned
// and turned back, pixels are the same. A colour profile is applied or told of, never more; its name is printable.
// The input is the size of the EXIF, 2 bytes, the EXIF, the size of the profile, 2 bytes, the profile, and XMP.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "fuzz/harness.hpp"
#include "ip2p/io/exif.hpp"
#include "ip2p/io/icc.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

ip2p::Image small_picture(std::int64_t width, std::int64_t height) {
  ip2p::Image image{width, height, {}};
  for (std::int64_t i = 0; i < width * height * 3; ++i) image.pixels.push_back(static_cast<std::uint8_t>(i * 37));
  return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = fuzz::text_of(data, size);
  const auto part = [&] {
    if (rest.size() < 2) return std::string_view();
    const std::size_t length = static_cast<unsigned char>(rest[0]) * 256u + static_cast<unsigned char>(rest[1]);
    const auto bytes = rest.substr(2, length);
    rest.remove_prefix(2 + bytes.size());
    return bytes;
  };
  ip2p::detail::PictureMetadata metadata;
  metadata.exif = ip2p::detail::bytes_of_text(part());
  metadata.icc = ip2p::detail::bytes_of_text(part());
  metadata.xmp = rest;
  const int orientation = ip2p::detail::orientation_of(metadata);
  fuzz::expect(orientation >= 1 && orientation <= 8, "an orientation that there is not");
  const auto picture = small_picture(5, 3);
  const int back = orientation == 6 ? 8 : orientation == 8 ? 6 : orientation;
  fuzz::expect(ip2p::apply_orientation(ip2p::apply_orientation(picture, orientation), back) == picture,
               "turned and turned back, a picture differs");
  for (const char c : ip2p::detail::icc_name(metadata.icc)) fuzz::expect(c >= ' ' && c <= '~', "an unprintable name");
  static_cast<void>(ip2p::detail::has_srgb_colorants(metadata.icc));
  auto converted = picture;
  int warnings = 0;
  ip2p::ReadOptions options;
  options.warn = [&](const std::string&) { ++warnings; };
  ip2p::detail::convert_to_srgb(converted, metadata.icc, "input", options);
  fuzz::expect(converted.width == 5 && converted.height == 3 && converted.pixels.size() == 45, "another size");
  fuzz::expect(warnings == 0 || converted == picture, "a profile that is told of and applied");
#if IP2P_HAS_LCMS
  const ip2p::detail::ToSrgb cmyk(metadata.icc, true);
  if (cmyk) cmyk.cmyk(picture.pixels.data(), converted.pixels.data(), 11);
#endif
  return 0;
}
