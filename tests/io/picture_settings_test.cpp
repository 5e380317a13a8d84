#include <ip2p/io/picture_settings.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::ImageFormat;
using ip2p::PictureSettings;

ip2p::Picture settings_picture(bool with_alpha) {
  ip2p::Picture picture{{24, 16, {}}, {}};
  for (int i = 0; i < 24 * 16 * 3; ++i) picture.image.pixels.push_back(static_cast<std::uint8_t>(i * 7 % 251));
  for (int i = 0; with_alpha && i < 24 * 16; ++i) picture.alpha.push_back(static_cast<std::uint8_t>(i % 256));
  return picture;
}

const std::vector<ImageFormat>& written_formats() {
#if IP2P_HAS_WEBP
  static const std::vector formats{ImageFormat::png, ImageFormat::jpeg, ImageFormat::webp};
#else
  static const std::vector formats{ImageFormat::png, ImageFormat::jpeg};
#endif
  return formats;
}

std::string file_text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("Settings come back from every format, and pixels stay as they are", "[io]") {
  const std::vector<PictureSettings> all{
      {"make it snowy\nSteps: 4, Seed: 42", R"({"prompt": "a \"b\" <c> & 'd'	e"})"},
      {"r\u00e9chauffe-le \u2603 \U0001F3D4", "{\"prompt\": \"\u2603\"}"},
      {"text alone", ""},
      {"", "{\"json\":\"alone, of odd length\"}"},
      {"", "{\"json\":\"alone, of even length\"}"},
  };
  for (const auto format : written_formats()) {
    for (const bool with_alpha : {false, true}) {
      const auto plain = ip2p::encode_picture(settings_picture(with_alpha), format);
      CHECK_FALSE(ip2p::decode_settings(plain, "plain").has_value());
      const auto before = ip2p::decode_picture(plain, "plain");
      for (const auto& settings : all) {
        const auto marked = ip2p::with_settings(plain, settings);
        const auto found = ip2p::decode_settings(marked, "marked");
        REQUIRE(found.has_value());
        CHECK(found->text == settings.text);
        CHECK(found->json == settings.json);
        const auto after = ip2p::decode_picture(marked, "marked");
        CHECK(after.image == before.image);
        CHECK(after.alpha == before.alpha);
      }
    }
  }
}

TEST_CASE("write_picture writes settings that read_settings reads", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const PictureSettings settings{"make it snowy", "{}"};
  for (const char* name : {"a.png", "a.jpg"}) {
    ip2p::write_picture(scratch / name, settings_picture(false), settings);
    CHECK(ip2p::read_settings(scratch / name) == settings);
  }
  ip2p::write_picture(scratch / "b.png", settings_picture(false));
  CHECK_FALSE(ip2p::read_settings(scratch / "b.png").has_value());
  CHECK_THROWS_WITH(ip2p::read_settings(scratch / "missing.png"), Contains("no such file"));
}

TEST_CASE("The places of settings are those that other programs look at", "[io]") {
  const auto png = file_text_of(
      ip2p::with_settings(ip2p::encode_picture(settings_picture(false), ImageFormat::png), {"abc", "{\"\u2603\":1}"}));
  CHECK(png.substr(33, 4) == std::string("\0\0\0\x0e", 4));  // the length of the chunk after IHDR
  CHECK(png.substr(37, 18) == std::string("tEXtparameters\0abc", 18));
  CHECK(png.substr(55 + 8, 13) == std::string("iTXtip2p\0\0\0\0\0", 13));
  const auto jpeg = file_text_of(
      ip2p::with_settings(ip2p::encode_picture(settings_picture(false), ImageFormat::jpeg), {"abc", "{}"}));
  CHECK(jpeg.find(std::string("Exif\0\0MM\0*", 10)) != std::string::npos);
  CHECK(jpeg.find(std::string("UNICODE\0\0a\0b\0c", 14)) != std::string::npos);
  CHECK(jpeg.find("ip2p:settings=\"{}\"") != std::string::npos);
}

TEST_CASE("Comments of other programs are read in either byte order", "[io]") {
  // Of a WebP file that has no more than an EXIF block.
  const auto comment = [](const std::string& block) -> std::optional<std::string> {
    auto chunk = std::string("EXIF") + static_cast<char>(block.size()) + std::string(3, '\0') + block;
    if (block.size() % 2 != 0) chunk += '\0';
    const auto file = std::string("RIFF") + static_cast<char>(chunk.size() + 4) + std::string(3, '\0') + "WEBP" + chunk;
    const auto settings = ip2p::decode_settings(std::as_bytes(std::span(file)), "a.webp");
    return settings ? std::optional(settings->text) : std::nullopt;
  };
  const std::string directory = std::string("II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0", 26) +
                                std::string("\x01\0\x86\x92\x07\0\x0c\0\0\0\x2c\0\0\0\0\0\0\0", 18);
  const std::string unicode = directory + std::string("UNICODE\0\x61\0\xe9\0", 12);
  CHECK(comment(unicode) == "a\u00e9");
  CHECK(comment("Exif" + std::string(2, '\0') + unicode) == "a\u00e9");
  CHECK(comment(directory + std::string("ASCII\0\0\0abcd", 12)) == "abcd");
  CHECK_FALSE(comment(directory + std::string("JIS\0\0\0\0\0abcd", 12)).has_value());
  for (std::size_t size = 0; size < unicode.size(); ++size) CHECK_FALSE(comment(unicode.substr(0, size)).has_value());
}

TEST_CASE("Settings that a format cannot hold are refused", "[io]") {
  const auto jpeg = ip2p::encode_picture(settings_picture(false), ImageFormat::jpeg);
  CHECK_THROWS_WITH(ip2p::with_settings(jpeg, {std::string(40000, 'a'), ""}, "a.jpg"),
                    Contains("a.jpg: settings: expected at most 65533 bytes of metadata in a JPEG file"));
  CHECK_THROWS_WITH(ip2p::with_settings(jpeg, {"\xff", ""}, "a.jpg"), Contains("bytes of UTF-8"));
  CHECK_THROWS_WITH(ip2p::with_settings(jpeg, {std::string(1, '\0'), ""}, "a.jpg"), Contains("without zeros"));
  const std::string bmp = "BM" + std::string(60, '\0');
  CHECK_THROWS_WITH(ip2p::with_settings(std::as_bytes(std::span(bmp)), {"a", ""}, "a.bmp"),
                    Contains("expected a PNG, JPEG or WebP file"));
}

TEST_CASE("Damaged settings are noticed or absent, never a crash", "[io]") {
  const PictureSettings settings{"make it snowy \u2603", "{\"prompt\": \"make it snowy\"}"};
  for (const auto format : written_formats()) {
    const auto marked = ip2p::with_settings(ip2p::encode_picture(settings_picture(false), format), settings);
    const auto reads = [&](std::span<const std::byte> content) {
      try {
        return ip2p::decode_settings(content, "damaged") == settings;
      } catch (const ip2p::Error&) {
        return false;
      }
    };
    REQUIRE(reads(marked));
    for (std::size_t size = 0; size < marked.size(); ++size) {
      const bool whole = reads(std::span(marked).first(size));
      if (format == ImageFormat::png) CHECK_FALSE(whole);  // its last chunk is missing
    }
    for (std::size_t i = 8; i < marked.size(); ++i) {
      auto changed = marked;
      changed[i] ^= std::byte{0x81};
      const bool same = reads(changed);
      if (format == ImageFormat::png) CHECK_FALSE(same);  // every byte is under a checksum
    }
  }
}
