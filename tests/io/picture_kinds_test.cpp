#include <ip2p/io/exif.hpp>
#include <ip2p/io/icc.hpp>
#include <ip2p/io/image.hpp>
#include <ip2p/io/png_chunks.hpp>
#include <ip2p/io/stb.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::Image;
using ip2p::testing::fixture;

const nlohmann::json& kinds() {
  static const auto json = nlohmann::json::parse(std::ifstream(fixture("io/fixtures/kinds.json")));
  return json;
}

std::filesystem::path kind(const std::string& file) { return fixture("io/fixtures/kinds") / file; }

std::vector<std::uint8_t> bytes_of_hex(const std::string& text) {
  std::vector<std::uint8_t> bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

/// The largest difference from the fixture's pixels, or 1000 for another size.
int difference(const Image& image, const nlohmann::json& entry) {
  const auto expected = bytes_of_hex(entry["pixels"]);
  if (image.width != entry["size"][0] || image.height != entry["size"][1] || image.pixels.size() != expected.size()) {
    return 1000;
  }
  int largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(int{image.pixels[i]} - int{expected[i]}));
  }
  return largest;
}

/// Reading options that collect what is warned of.
struct Told {
  std::vector<std::string> sentences;
  ip2p::ReadOptions options = {};
  Told() {
    options.warn = [this](const std::string& sentence) { sentences.push_back(sentence); };
  }
  Told(const Told&) = delete;
};

/// Whether the pixels of `file` can be expected to be libjpeg's.
bool is_exact(const std::string& file) { return IP2P_HAS_JPEG || !file.ends_with(".jpg"); }

bool is_readable(const std::string& file) { return IP2P_HAS_WEBP || !file.ends_with(".webp"); }

Image sky(std::int64_t width, std::int64_t height) {
  Image image{width, height, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (const auto value : {x * 200 / width, 120 + y * 100 / height, (x + y) * 255 / (width + height)}) {
        image.pixels.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }
  return image;
}

}  // namespace

TEST_CASE("Orientation is found wherever Pillow finds it", "[io]") {
  for (const auto& entry : kinds()["orientations"]) {
    const std::string file = entry["file"];
    INFO(file);
    if (!is_readable(file)) continue;
    CHECK(difference(ip2p::read_image(kind(file)), entry) <= (is_exact(file) ? 0 : 48));
  }
  const auto stored = ip2p::read_image(kind("orientations_xmp.png"), ip2p::released_reading());
  CHECK(stored.width > stored.height);
}

TEST_CASE("XMP's orientation is a digit after the name, as an attribute or an element", "[io]") {
  using ip2p::detail::xmp_orientation;
  CHECK(xmp_orientation("<a tiff:Orientation=\"6\"/>") == 6u);
  CHECK(xmp_orientation("<tiff:Orientation>8</tiff:Orientation>") == 8u);
  CHECK(xmp_orientation("<a tiff:Orientation='3'/>") == 3u);
  CHECK(xmp_orientation("<tiff:OrientationOfSensor>8</x><tiff:Orientation>2<") == 2u);
  CHECK_FALSE(xmp_orientation("<a tiff:Orientation=\"\"/>").has_value());
  CHECK_FALSE(xmp_orientation("tiff:Orientation").has_value());
}

TEST_CASE("Colours of a profile are converted to sRGB as Pillow does by lcms2", "[io]") {
  for (const auto& entry : kinds()["colours"]) {
    const std::string file = entry["file"];
    INFO(file);
    if (!is_readable(file)) continue;
    Told told;
    const auto image = ip2p::read_image(kind(file), told.options);
    const bool cmyk = file.find("cmyk") != std::string::npos;
    if (IP2P_HAS_LCMS && (IP2P_HAS_JPEG || !cmyk)) {
      CHECK(difference(image, entry) <= (is_exact(file) ? 1 : 48));
      CHECK(told.sentences.empty());
    } else if (file.find("srgb") != std::string::npos) {
      CHECK(told.sentences.empty());
    } else {
      REQUIRE(told.sentences.size() == 1);
      CHECK_THAT(told.sentences[0], Contains(file) && Contains("profile '") && Contains("this build has no"));
    }
  }
  // A profile that is sRGB's changes no value, and the released behaviour no picture.
  const auto plain = ip2p::read_image(kind("colours_srgb_profile.png"));
  CHECK(ip2p::read_image(kind("colours_srgb_profile.png"), ip2p::released_reading()) == plain);
  CHECK(ip2p::read_image(kind("colours_p3.png"), {.colour = ip2p::ColourProfile::ignore}) == plain);
  if (IP2P_HAS_LCMS) CHECK_FALSE(ip2p::read_image(kind("colours_p3.png")) == plain);
}

TEST_CASE("A damaged profile is told, and the picture is read without it", "[io]") {
  std::ifstream file(kind("colours_p3.jpg"), std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  const auto mark = content.find("acsp");
  REQUIRE(mark != std::string::npos);
  content[mark] = 'x';
  Told told;
  const auto image = ip2p::decode_image(std::as_bytes(std::span(content)), "photo.jpg", told.options);
  REQUIRE(told.sentences.size() == 1);
  CHECK(told.sentences[0] == "photo.jpg: the colour profile is damaged; its colours are taken for sRGB");
  CHECK(image == ip2p::read_image(kind("colours_p3.jpg"), ip2p::released_reading()));
}

TEST_CASE("BMP, GIF, TGA, PSD, PNM and HDR are read", "[io]") {
  for (const auto& entry : kinds()["formats"]) {
    const std::string file = entry["file"];
    INFO(file);
    CHECK(difference(ip2p::read_image(kind(file)), entry) <= (file.ends_with(".hdr") ? 1 : 0));
  }
}

TEST_CASE("BMP, GIF, TGA, PSD, PNM and HDR that are cut off are refused", "[io]") {
  for (const auto& entry : kinds()["formats"]) {
    const std::string name = entry["file"];
    INFO(name);
    std::ifstream file(kind(name), std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(file), {}};
    // What follows the pixels of a TGA file is a footer that few programs write.
    const std::size_t end = whole.size() - (name.ends_with(".tga") ? 26 : 0);
    for (std::size_t length = 0; length < end; ++length) {
      try {
        static_cast<void>(ip2p::decode_image(std::as_bytes(std::span(whole).first(length)), "cut"));
        FAIL("accepted " << length << " of " << whole.size() << " bytes");
      } catch (const ip2p::Error&) {
      }
    }
  }
}

TEST_CASE("Damaged BMP, GIF, TGA, PSD, PNM and HDR give an error or a picture, never a crash", "[io]") {
  std::mt19937 random(7);
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  std::size_t pictures = 0, errors = 0;
  for (const auto& entry : kinds()["formats"]) {
    std::ifstream file(kind(entry["file"]), std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(file), {}};
    for (int round = 0; round < 300; ++round) {
      auto damaged = whole;
      for (std::size_t change = below(4) + 1; change > 0; --change) {
        // Headers are short, and what is wrong in them leads furthest.
        const std::size_t position = below(below(2) == 0 ? std::min<std::size_t>(64, damaged.size()) : damaged.size());
        damaged[position] = below(2) == 0 ? static_cast<char>(random()) : static_cast<char>(0xff * below(2));
      }
      try {
        const auto image = ip2p::decode_image(std::as_bytes(std::span(damaged)), "fuzz", {.max_pixels = 1 << 16});
        ip2p::require_consistent(image, "fuzz");
        ++pictures;
      } catch (const ip2p::Error&) {
        ++errors;
      }
    }
  }
  CHECK(pictures + errors >= 4500);
  CHECK(errors > 500);
}

TEST_CASE("GIF pixels that are missing before the file's end are noticed", "[io]") {
  std::ifstream file(kind("formats_palette.gif"), std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  // The picture's descriptor, which is 9 bytes long, a code size, and the first block of codes: cut to half.
  const auto descriptor = content.find(std::string("\x2c\0\0\0\0", 5));
  REQUIRE(descriptor != std::string::npos);
  auto& length = content[descriptor + 11];
  const auto old = static_cast<unsigned char>(length);
  length = static_cast<char>(old / 2);
  content.erase(descriptor + 12 + old / 2, old - old / 2);
  CHECK_THROWS_WITH(ip2p::decode_image(std::as_bytes(std::span(content)), "cut.gif"),
                    Contains("cut.gif") && Contains("pixels of the first frame are missing"));
}

TEST_CASE("Where a picture is clear, the background is seen and the alpha kept", "[io]") {
  const auto rgba = fixture("io/fixtures/images/rgba.png");
  const auto hidden = ip2p::read_image(rgba, {.alpha = ip2p::Alpha::drop});
  const auto picture = ip2p::read_picture(rgba, {.background = {10, 200, 30}});
  REQUIRE(picture.alpha.size() * 3 == hidden.pixels.size());
  const std::uint8_t background[] = {10, 200, 30};
  std::size_t mixed = 0;
  for (std::size_t i = 0; i < hidden.pixels.size(); ++i) {
    const double alpha = picture.alpha[i / 3] / 255.0;
    const double expected = hidden.pixels[i] * alpha + background[i % 3] * (1 - alpha);
    CHECK(std::abs(picture.image.pixels[i] - expected) <= 0.51);
    mixed += alpha > 0 && alpha < 1;
  }
  CHECK(mixed > 100);
  CHECK(ip2p::read_picture(fixture("io/fixtures/images/rgb.png")).alpha.empty());
  CHECK(ip2p::read_picture(rgba, ip2p::released_reading()).alpha.empty());
}

TEST_CASE("Colours of a GIF that are clear are kept where alpha is dropped", "[io]") {
  CHECK(ip2p::read_image(kind("formats_clear.gif")) != ip2p::read_image(kind("formats_palette.gif")));
  CHECK(ip2p::read_image(kind("formats_clear.gif"), ip2p::released_reading()) ==
        ip2p::read_image(kind("formats_palette.gif")));
}

TEST_CASE("Values of PNM between two levels become the even one, as in Pillow", "[io]") {
  const std::string file("P6 2 1 510\n\0\1\0\3\0\5\1\xFD\1\xFE\0\7", 23);
  // Python: [round(v / 510 * 255) for v in (1, 3, 5, 509, 510, 7)]
  CHECK(ip2p::decode_image(std::as_bytes(std::span(file)), "input").pixels ==
        std::vector<std::uint8_t>{0, 2, 2, 254, 255, 4});
}

TEST_CASE("BMP and PSD whose pixels are not where they say are refused", "[io]") {
  const auto bytes = [](const char* file) {
    std::ifstream stream(kind(file), std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(stream), {}};
  };
  const auto refused = [](const std::string& file, const std::string& why) {
    CHECK_THROWS_WITH(ip2p::decode_image(std::as_bytes(std::span(file)), "input"), "input: " + why);
  };
  auto bmp = bytes("formats_rgb.bmp");
  bmp[10] = 30;
  refused(bmp, "corrupt BMP: its pixels begin within its header");
  // 54 bytes of headers, two colours and one row.
  const auto two_colours = [](char pixels, char used, char compression) {
    std::string file("BM\x42\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0\x2\0\0\0\1\0\0\0\1\0\1\0", 30);
    file.append(36, '\0');
    file[10] = pixels, file[33] = compression, file[46] = used;
    file.replace(54, 8, "\1\2\3\0\4\5\6", 8);
    file[62] = '\x40';
    return file;
  };
  const auto read = two_colours(62, 2, 0);
  CHECK(ip2p::decode_image(std::as_bytes(std::span(read)), "input").pixels ==
        std::vector<std::uint8_t>{3, 2, 1, 6, 5, 4});
  for (const char used : {0, 2, 4})
    refused(two_colours(58, used, 0), "corrupt BMP: its palette reaches into its pixels");
  refused(two_colours(62, 2, '\xD1'), "corrupt BMP: its kind of compression is none");
  // Two bytes of compression and then the length of each row, after a header of 26 bytes and three empty parts.
  const auto psd = bytes("formats_rgb.psd");
  CHECK(psd[39] == 1);
  for (const std::size_t length : {41, 43}) {
    auto damaged = psd;
    damaged[length] ^= 1;
    refused(damaged, "corrupt PSD: a row is not as long as the picture is wide");
  }
  auto wide = psd;
  wide[23] = 16;
  refused(wide, "unusual PSD: packed values of 16 bits, which are not read; save it with 8, or as PNG");
}

TEST_CASE("White that the colours of a PSD were mixed with is taken out", "[io]") {
  // Four pixels in a row; the planes of red, green, blue, opacity and a channel more.
  const auto psd = [](bool wide, const std::vector<std::string>& planes) {
    std::string file("8BPS\0\1\0\0\0\0\0\0\0_\0\0\0\1\0\0\0\4\0_\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 40);
    file[13] = static_cast<char>(planes.size()), file[23] = wide ? 16 : 8;
    for (const auto& plane : planes) {
      for (const char value : plane) file += wide ? std::string{value, '\x33'} : std::string{value};
    }
    return file;
  };
  const std::string red("\xE6\x0A\xC8\x40", 4), green("\xFF\xFF\xFF\x41", 4), blue("\xCC\x00\x7F\x42", 4);
  const std::string opacity("\x33\x33\x80\x00", 4);
  ip2p::ReadOptions dropped, on_black;
  dropped.alpha = ip2p::Alpha::drop;
  on_black.background = {0, 0, 0};
  for (const bool wide : {false, true}) {
    CAPTURE(wide);
    const auto file = psd(wide, {red, green, blue, opacity, red});
    const auto content = std::as_bytes(std::span(file));
    // As Pillow: the stored values.
    CHECK(ip2p::decode_image(content, "input", dropped).pixels ==
          std::vector<std::uint8_t>{0xE6, 0xFF, 0xCC, 0x0A, 0xFF, 0, 0xC8, 0xFF, 0x7F, 0x40, 0x41, 0x42});
    // A colour c of opacity a was stored as a c + (1 - a) 255; that of the second pixel is darker than any such.
    const auto picture = ip2p::decode_picture(content, "input", on_black);
    CHECK(picture.alpha == std::vector<std::uint8_t>{0x33, 0x33, 0x80, 0});
    const auto part = [](std::uint32_t colour, std::uint32_t alpha) { return ip2p::detail::over(0, colour, alpha); };
    CHECK(picture.image.pixels ==
          std::vector<std::uint8_t>{part(130, 51), 51, 0, 0, 51, 0, part(145, 128), 128, part(0, 128), 0, 0, 0});
    // Without opacity.
    const auto opaque = psd(wide, {red, green, blue});
    CHECK(ip2p::decode_picture(std::as_bytes(std::span(opaque)), "input", on_black).image ==
          ip2p::decode_image(content, "input", dropped));
  }
  const auto refused = [](std::string file, std::size_t place, char byte, const std::string& why) {
    file[place] = byte;
    CHECK_THROWS_WITH(ip2p::decode_image(std::as_bytes(std::span(file)), "input"), "input: " + why);
  };
  const auto file = psd(false, {red, green, blue});
  refused(file, 13, 2, "corrupt PSD: RGB has three channels at least");
  refused(
      file, 25, 4,
      "unusual PSD: expected version 1, mode 3 (RGB), 8 or 16 bits and compression 0 or 1, found 1, 4, 8 and 0; save "
      "it as PNG");
}

TEST_CASE("Numbers in the header of a PNM end in white space", "[io]") {
  for (const char* file : {"P5 1\b1 255\n_", "P5 1 1\b255\n_", "P5 1 1 255#\n_", "P5 1 1 15\b\1"}) {
    const std::string_view bytes(file);
    CAPTURE(bytes);
    CHECK_THROWS_WITH(ip2p::decode_image(std::as_bytes(std::span(bytes)), "input"),
                      "input: corrupt PNM: expected white space after a number in its header");
  }
  const std::string_view remark("P5 1#remark\n1 15\n\1");
  CHECK(ip2p::decode_image(std::as_bytes(std::span(remark)), "input").pixels == std::vector<std::uint8_t>{17, 17, 17});
}

TEST_CASE("Alpha is written to PNG and WebP", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const auto picture = ip2p::read_picture(fixture("io/fixtures/images/rgba.png"));
  ip2p::write_picture(scratch / "alpha.png", picture);
  const auto read = ip2p::read_picture(scratch / "alpha.png", {.alpha = ip2p::Alpha::composite});
  CHECK(read.alpha == picture.alpha);
  CHECK(ip2p::read_image(scratch / "alpha.png", {.alpha = ip2p::Alpha::drop}) == picture.image);
  if (IP2P_HAS_WEBP) {
    ip2p::write_picture(scratch / "alpha.webp", picture);
    CHECK(ip2p::read_picture(scratch / "alpha.webp").alpha == picture.alpha);
  }
  ip2p::write_picture(scratch / "flat.jpg", picture);
  CHECK(ip2p::read_picture(scratch / "flat.jpg").alpha.empty());
  CHECK_THROWS_WITH(ip2p::encode_picture({picture.image, {1, 2}}, ip2p::ImageFormat::png),
                    Contains("expected an alpha for each of 273 pixels, got 2"));
  CHECK_THROWS_WITH(ip2p::encode_image(picture.image, ip2p::ImageFormat::gif), Contains("only read"));
}

TEST_CASE("A mask means what its program meant", "[io]") {
  const auto& masks = kinds()["masks"];
  const auto levels = bytes_of_hex(masks["levels"]);
  for (const std::string file : masks["files"]) {
    INFO(file);
    Told told;
    const auto mask = ip2p::read_mask(kind(file), told.options);
    CHECK(mask.width == masks["size"][0]);
    REQUIRE(mask.pixels.size() == levels.size() * 3);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < mask.pixels.size(); ++i) wrong += mask.pixels[i] != levels[i / 3];
    CHECK(wrong == 0);
    CHECK(told.sentences.size() == (file == "masks_hole.png" ? 1 : 0));
  }
}

TEST_CASE("A mask that is empty, full or a photograph is told", "[io]") {
  const auto told_of = [](const ip2p::Picture& picture) {
    Told told;
    const auto content = ip2p::encode_picture(picture, ip2p::ImageFormat::png);
    const auto mask = ip2p::decode_mask(content, "mask.png", told.options);
    ip2p::require_consistent(mask, "mask");
    return told.sentences.empty() ? std::string() : told.sentences.back();
  };
  const auto flat = [](std::uint8_t level) { return Image{8, 8, std::vector<std::uint8_t>(8 * 8 * 3, level)}; };
  CHECK(told_of({flat(0), {}}) == "mask.png: the mask is empty: nothing in it is bright, so nothing is changed");
  CHECK(told_of({flat(100), {}}) == "mask.png: the mask is empty: nothing in it is bright, so nothing is changed");
  CHECK(told_of({flat(255), {}}) == "mask.png: the mask is full: all of it is bright, so everything is changed");
  CHECK(told_of({flat(1), {}}) == "mask.png: the mask is full: all of it is bright, so everything is changed");
  CHECK_THAT(told_of({sky(32, 32), {}}), Contains("looks like a photograph"));
  auto half = flat(0);
  std::fill_n(half.pixels.begin(), half.pixels.size() / 2, std::uint8_t{255});
  CHECK(told_of({half, {}}).empty());
  CHECK_THAT(told_of({half, std::vector<std::uint8_t>(64, 0)}), Contains("the mask is empty"));
}

TEST_CASE("Feathered masks keep their levels", "[io]") {
  Image feathered = ip2p::detail::blank_image(16, 2);
  for (std::size_t i = 0; i < feathered.pixels.size(); ++i) {
    feathered.pixels[i] = static_cast<std::uint8_t>(i / 3 % 16 * 17);
  }
  Told told;
  CHECK(ip2p::decode_mask(ip2p::encode_image(feathered, ip2p::ImageFormat::png), "mask.png", told.options) ==
        feathered);
  CHECK(told.sentences.empty());
}

TEST_CASE("JPEG photographs beyond the limit are read smaller", "[io]") {
  const auto photo = sky(640, 480);
  const auto content = ip2p::encode_image(photo, ip2p::ImageFormat::jpeg, 95);
  if (!IP2P_HAS_JPEG) {
    CHECK_THROWS_WITH(ip2p::decode_image(content, "photo.jpg", {.max_pixels = 100000}),
                      Contains("more than the limit"));
    return;
  }
  const auto full = ip2p::decode_image(content, "photo.jpg");
  for (const std::int64_t divisor : {2, 4, 8}) {
    Told told;
    told.options.max_pixels = 640 * 480 / (divisor * divisor);
    const auto picture = ip2p::decode_picture(content, "photo.jpg", told.options);
    CHECK(picture.image.width == 640 / divisor);
    CHECK(picture.image.height == 480 / divisor);
    CHECK(picture.file_width == 640);
    CHECK(picture.file_height == 480);
    REQUIRE(told.sentences.size() == 1);
    CHECK_THAT(told.sentences[0], Contains("640x480") && Contains(fmt::format("at 1/{} of its size", divisor)));
    double largest = 0;  // from the mean of the pixels that one covers
    for (std::int64_t y = 0; y < picture.image.height; ++y) {
      for (std::int64_t x = 0; x < picture.image.width; ++x) {
        for (std::int64_t channel = 0; channel < 3; ++channel) {
          double mean = 0;
          for (std::int64_t i = 0; i < divisor * divisor; ++i) {
            const auto row = y * divisor + i / divisor, column = x * divisor + i % divisor;
            mean += full.pixels[static_cast<std::size_t>((row * 640 + column) * 3 + channel)];
          }
          mean /= static_cast<double>(divisor * divisor);
          const auto value =
              picture.image.pixels[static_cast<std::size_t>((y * picture.image.width + x) * 3 + channel)];
          largest = std::max(largest, std::abs(value - mean));
        }
      }
    }
    CHECK(largest < 6);
  }
  CHECK_THROWS_WITH(ip2p::decode_image(content, "photo.jpg", {.max_pixels = 1000}), Contains("limit of 1000 pixels"));
  CHECK_THROWS_WITH(ip2p::decode_image(content, "photo.jpg", {.max_pixels = 100000, .max_file_pixels = 300000}),
                    Contains("640x480") && Contains("limit of 300000 pixels"));
}

TEST_CASE("Names of formats that are not written come with a command", "[io]") {
  const auto refusal = [](const std::string& name) -> std::string {
    try {
      static_cast<void>(ip2p::image_format_for(name));
    } catch (const ip2p::Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(refusal("out.avif"), Contains("'.avif'") && Contains("avifenc out.png out.avif"));
  CHECK_THAT(refusal("out.JXL"), Contains("cjxl"));
  CHECK_THAT(refusal("out.heic"), Contains("heif-enc"));
  CHECK_THAT(refusal("out.heif"), Contains("heif-enc"));
  CHECK_THAT(refusal("out.tif"), Contains("magick out.png out.tiff"));
  CHECK_THAT(refusal("out.bmp"), Contains("ImageMagick"));
  CHECK_THAT(refusal("out.ti"), Contains("'.ti'") && !Contains("magick"));
  CHECK_THAT(refusal("out"), !Contains("convert it"));
}

TEST_CASE("Texts of PNG files are unpacked within bounds", "[io]") {
  const auto raw = [](std::string_view text) { return ip2p::detail::raw_profile(text).size(); };
  CHECK(raw("\nexif\n       3\n4d4d\n00\n") == 3);
  CHECK(raw("\nexif\n       3\n4d4g\n00\n") == 0);
  CHECK(raw("\nexif") == 0);
  CHECK_FALSE(ip2p::detail::unpacked(std::as_bytes(std::span(std::string_view("not packed"))), 100).has_value());
  const std::string packed("\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27", 11);  // "abc"
  CHECK(ip2p::detail::unpacked(std::as_bytes(std::span(packed)), 3) == "abc");
  CHECK_FALSE(ip2p::detail::unpacked(std::as_bytes(std::span(packed)), 2).has_value());
}
