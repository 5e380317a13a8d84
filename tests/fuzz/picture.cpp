// A picture file is refused with an Error, or it has as many pixels as its size says, within the limits, and an opacity
// for each or for none; so has it as a mask. Written as a PNG the pixels read the same, and as a JPEG or WebP they have
// the same size; settings put into that file are found in it again, and leave its pixels as they are.
//
// The program's name says of which format: picture_png, picture_gif. Other files are no input. The mutator keeps the
// sums of PNG chunks right.

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/harness.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/image_definitions.hpp"
#include "ip2p/io/picture_settings.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

constexpr std::pair<std::string_view, ip2p::ImageFormat> formats[] = {
    {"png", ip2p::ImageFormat::png}, {"jpeg", ip2p::ImageFormat::jpeg}, {"webp", ip2p::ImageFormat::webp},
    {"bmp", ip2p::ImageFormat::bmp}, {"gif", ip2p::ImageFormat::gif},   {"tga", ip2p::ImageFormat::tga},
    {"psd", ip2p::ImageFormat::psd}, {"pnm", ip2p::ImageFormat::pnm},   {"hdr", ip2p::ImageFormat::hdr}};
ip2p::ImageFormat wanted = ip2p::ImageFormat::png;
const ip2p::PictureSettings settings{"steps: 5 \xC3\xA9", R"({"seed": 1, "prompt": "<&\">"})"};

void expect_sound(const ip2p::Picture& picture, const ip2p::ReadOptions& options) {
  const auto& [image, alpha, width, height] = picture;
  fuzz::expect(image.width > 0 && image.height > 0 && image.width * image.height <= options.max_pixels,
               "a picture beyond the limits");
  const auto count = static_cast<std::size_t>(image.width * image.height);
  fuzz::expect(image.pixels.size() == count * 3, "another number of pixels than the size says");
  fuzz::expect(alpha.empty() || alpha.size() == count, "opacity for some of the pixels");
  fuzz::expect(width >= image.width && height >= image.height, "a picture that is larger than its file's");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char*** arguments) {
  const std::string program = **arguments;
  for (const auto& [name, format] : formats) {
    if (program.ends_with(name)) wanted = format;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto content = std::as_bytes(std::span(data, size));
  bool is_wanted = false;
  if (!fuzz::reads([&] { is_wanted = ip2p::sniff_image_format(content, "input") == wanted; }) || !is_wanted) return -1;
  ip2p::ReadOptions options;
  options.max_pixels = 1 << 18;
  options.max_file_pixels = 1 << 20;
  options.warn = [](const std::string& sentence) { fuzz::expect(!sentence.empty(), "a warning without words"); };
  fuzz::reads([&] { expect_sound(ip2p::decode_picture(content, "input", options), options); });
  fuzz::reads([&] {
    const auto mask = ip2p::decode_mask(content, "input", options);
    ip2p::require_consistent(mask, "mask");
  });

  auto as_stored = ip2p::released_reading();
  as_stored.max_pixels = options.max_pixels;
  as_stored.max_file_pixels = options.max_file_pixels;
  fuzz::reads([&] { static_cast<void>(ip2p::decode_settings(content, "input")); });
  fuzz::reads([&] { static_cast<void>(ip2p::with_settings(content, settings, "input")); });
  ip2p::Picture picture;
  if (!fuzz::reads([&] { picture = ip2p::decode_picture(content, "input", as_stored); })) return 0;
  expect_sound(picture, as_stored);
  fuzz::must_read("what was read cannot be written and read again", [&] {
    const auto png = ip2p::encode_picture(picture, ip2p::ImageFormat::png, 95, "again");
    fuzz::expect(ip2p::decode_picture(png, "again", as_stored).image == picture.image,
                 "written as a PNG, it reads otherwise");
  });
  if (wanted != ip2p::ImageFormat::png && wanted != ip2p::ImageFormat::jpeg && wanted != ip2p::ImageFormat::webp) {
    return 0;
  }
  if (picture.image.width * picture.image.height > 4096) return 0;
  fuzz::must_read("what was read cannot be written and read again", [&] {
    const auto encoded = ip2p::encode_picture(picture, wanted, 50, "again");
    const auto again = ip2p::decode_picture(encoded, "again", as_stored);
    fuzz::expect(again.image.width == picture.image.width && again.image.height == picture.image.height,
                 "written again, it has another size");
    const auto with = ip2p::with_settings(encoded, settings, "with settings");
    fuzz::expect(ip2p::decode_picture(with, "with settings", as_stored).image == again.image,
                 "settings change the pixels");
    fuzz::expect(ip2p::decode_settings(with, "with settings") == settings, "settings read otherwise");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (wanted != ip2p::ImageFormat::png || seed % 8 == 0) return size;
  std::string bytes(fuzz::text_of(data, size));
  for (std::size_t place = 8; place + 12 <= bytes.size();) {
    const std::size_t length = ip2p::detail::big_endian<4>(bytes, place);
    if (length > bytes.size() - place - 12) break;
    const auto sum = ip2p::detail::crc32(std::as_bytes(std::span(bytes)).subspan(place + 4, length + 4));
    bytes.replace(place + 8 + length, 4, ip2p::detail::big_endian_text<4>(sum));
    place += 12 + length;
  }
  return fuzz::put_back(bytes, data, size, most);
}
