#include <ip2p/io/image.hpp>
#include <ip2p/io/stb.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <string>

#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::testing::fixture;
using Bytes = std::vector<std::byte>;

Bytes bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  const auto view = std::as_bytes(std::span(content));
  return {view.begin(), view.end()};
}

Bytes picture(const std::string& name) { return bytes_of(fixture("io/fixtures/images") / name); }

Bytes text(std::string_view content) {
  const auto view = std::as_bytes(std::span(content));
  return {view.begin(), view.end()};
}

std::size_t find(const Bytes& bytes, std::string_view what) {
  const std::string_view content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto position = content.find(what);
  REQUIRE(position != std::string_view::npos);
  return position;
}

std::vector<std::filesystem::path> readable_pictures() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("io/fixtures/images"))) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("foreign") || name.starts_with("claims") || name == "thin.png") continue;
    if (!IP2P_HAS_WEBP && entry.path().extension() == ".webp") continue;
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TEST_CASE("A picture that is cut off anywhere is refused", "[io]") {
  for (const auto& path : readable_pictures()) {
    const auto whole = bytes_of(path);
    INFO(path.filename().string());
    REQUIRE_NOTHROW(ip2p::decode_image(whole, "whole"));
    std::size_t accepted = 0;
    // Every length near the end, where decoders are most forgiving.
    for (std::size_t length = 0; length < whole.size(); length += length + 40 < whole.size() ? 3 : 1) {
      try {
        static_cast<void>(ip2p::decode_image(std::span(whole).first(length), "cut.file"));
        ++accepted;
      } catch (const ip2p::Error& error) {
        if (std::string_view(error.what()).find("cut.file") == std::string_view::npos) FAIL(error.what());
      }
    }
    CHECK(accepted == 0);
  }
}

TEST_CASE("A cut-off picture is called truncated", "[io]") {
  const auto half = [](const std::string& name) {
    auto bytes = picture(name);
    bytes.resize(bytes.size() / 2);
    return bytes;
  };
  CHECK_THROWS_WITH(ip2p::decode_image(half("rgb.png"), "cut.png"), Contains("cut.png") && Contains("truncated"));
  CHECK_THROWS_WITH(ip2p::decode_image(half("rgb_420.jpg"), "cut.jpg"), Contains("cut.jpg") && Contains("truncated"));
  CHECK_THROWS_WITH(ip2p::decode_image(half("progressive.jpg"), "cut.jpg"), Contains("truncated"));
  if (IP2P_HAS_WEBP) {
    CHECK_THROWS_WITH(ip2p::decode_image(half("lossy.webp"), "cut.webp"),
                      Contains("cut.webp") && Contains("truncated"));
  }
  // The end marker alone is missing.
  auto almost = picture("rgb_420.jpg");
  almost.resize(almost.size() - 2);
  CHECK_THROWS_WITH(ip2p::decode_image(almost, "cut.jpg"), Contains("Premature end of JPEG"));
}

TEST_CASE("Any changed byte of a PNG file is noticed", "[io]") {
  const auto whole = picture("orientation_6.png");
  for (std::size_t position = 0; position < whole.size(); ++position) {
    auto damaged = whole;
    damaged[position] ^= std::byte{0x10};
    INFO("byte " << position);
    CHECK_THROWS_AS(ip2p::decode_image(damaged, "damaged.png"), ip2p::Error);
  }
  auto damaged = whole;
  damaged[find(damaged, "IDAT") + 20] ^= std::byte{1};
  CHECK_THROWS_WITH(ip2p::decode_image(damaged, "damaged.png"), Contains("corrupt PNG"));
  damaged = whole;
  damaged[find(damaged, "eXIf") + 4] ^= std::byte{1};
  CHECK_THROWS_WITH(ip2p::decode_image(damaged, "damaged.png"), Contains("corrupt PNG") && Contains("CRC"));
}

TEST_CASE("Damage among the pixels of a JPEG file gives an error, not gray blocks", "[io]") {
  auto damaged = picture("rgb_444.jpg");
  const std::size_t scan = find(damaged, "\xff\xda");
  std::memset(damaged.data() + scan + 40, 0xff, 8);
  CHECK_THROWS_WITH(ip2p::decode_image(damaged, "damaged.jpg"), Contains("damaged.jpg") && Contains("corrupt"));
  damaged = picture("restarts.jpg");
  const std::size_t restart = find(damaged, "\xff\xd1");
  damaged[restart + 1] = std::byte{0xd5};
  CHECK_THROWS_WITH(ip2p::decode_image(damaged, "damaged.jpg"), Contains("corrupt"));
}

TEST_CASE("Other formats are named", "[io]") {
  const auto refuses = [](const std::string& extension, const std::string& name) {
    INFO(extension);
    CHECK_THROWS_WITH(ip2p::read_image(fixture("io/fixtures/images") / ("foreign." + extension)),
                      Contains("foreign." + extension) && Contains("unsupported format, got " + name) &&
                          Contains("expected PNG, JPEG, WebP") && Contains("; convert it first, for example with"));
  };
  refuses("tiff", "TIFF");
  refuses("avif", "AVIF");
  refuses("ico", "ICO");
  refuses("jp2", "JPEG 2000");
  const auto named = [](std::string_view content, const std::string& name) {
    CHECK_THROWS_WITH(ip2p::decode_image(text(content), "in"), Contains("unsupported format") && Contains(name));
  };
  using namespace std::string_view_literals;
  named(
      "\0\0\0\x18"
      "ftypheic\0\0\0\0"sv,
      "HEIC");
  named(
      "\0\0\0\x18"
      "ftypheic\0\0\0\0"sv,
      "heif-convert photo.heic photo.jpg");
  named("\xff\x0a\x01\x02"sv, "JPEG XL");
  named("\xff\x0a\x01\x02"sv, "djxl photo.jxl photo.png");
  named("P4\n8 8\n"sv, "PNM that is not binary gray");
  named("MM\0*\0\0\0\x08"sv, "TIFF");
  named("<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG");
  named("%PDF-1.7", "PDF");
  named("hello, this is text", "68 65 6c 6c 6f");
}

TEST_CASE("What users pass by accident is named", "[io]") {
  CHECK_THROWS_WITH(ip2p::decode_image({}, "empty.png"), Contains("empty.png") && Contains("empty"));
  CHECK_THROWS_WITH(ip2p::decode_image(text("\n <!DOCTYPE html><html><body>404"), "photo.jpg"),
                    Contains("an HTML page"));
  CHECK_THROWS_WITH(ip2p::decode_image(text("<html>"), "photo.jpg"), Contains("an HTML page"));
  CHECK_THROWS_WITH(
      ip2p::decode_image(text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "photo.jpg"),
      Contains("photo.jpg") && Contains("git-LFS pointer"));
  auto line_ends = picture("rgb.png");
  line_ends.erase(line_ends.begin() + 4);  // the carriage return of the signature
  CHECK_THROWS_WITH(ip2p::decode_image(line_ends, "photo.png"), Contains("damaged PNG signature"));

  const ip2p::testing::ScratchDir scratch;
  CHECK_THROWS_WITH(ip2p::read_image(scratch / "none.png"), Contains("none.png") && Contains("no such file"));
  CHECK_THROWS_WITH(ip2p::read_image(scratch.path()), Contains("is a folder"));
  std::ofstream(scratch / "empty.jpg").close();
  CHECK_THROWS_WITH(ip2p::read_image(scratch / "empty.jpg"), Contains("empty.jpg") && Contains("is empty"));
  CHECK_THROWS_WITH(ip2p::read_image("/dev/zero"), Contains("unsupported format"));
  CHECK_THROWS_WITH(ip2p::read_image(fixture("io/fixtures/images/rgb.png"), {.max_file_bytes = 100}),
                    Contains("larger than the limit of 100 bytes"));
}

TEST_CASE("Too many pixels and extreme aspect ratios are refused from the header alone", "[io]") {
  const auto in = [](const std::string& name) { return fixture("io/fixtures/images") / name; };
  CHECK_THROWS_WITH(ip2p::read_image(in("claims_10_gigapixel.png")), Contains("100000x100000") && Contains("64000000"));
  CHECK_THROWS_WITH(ip2p::read_image(in("claims_4_gigapixel.jpg")), Contains("65000x65000") && Contains("limit"));
  if (IP2P_HAS_WEBP) {
    CHECK_THROWS_WITH(ip2p::read_image(in("claims_268_megapixel.webp")), Contains("16383x16383") && Contains("limit"));
  }
  CHECK_THROWS_WITH(ip2p::read_image(in("thin.png")),
                    Contains("1x65535") && Contains("aspect ratio") && Contains("64:1"));
  CHECK(ip2p::read_image(in("thin.png"), {.max_aspect = 1e6}).height == 65535);
  CHECK_THROWS_WITH(ip2p::read_image(in("rgb.png"), {.max_pixels = 21 * 13 - 1}), Contains("272 pixels"));
  CHECK_NOTHROW(ip2p::read_image(in("rgb.png"), {.max_pixels = 21 * 13}));
}

TEST_CASE("Damaged pictures give an error or a picture, never a crash", "[io]") {
  std::mt19937 random(20230118);
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  const ip2p::ReadOptions options{.max_pixels = 1 << 16};
  std::size_t pictures = 0, errors = 0;
  for (const auto& path : readable_pictures()) {
    const auto whole = bytes_of(path);
    for (int round = 0; round < 100; ++round) {
      auto damaged = whole;
      for (std::size_t change = below(4) + 1; change > 0; --change) {
        const std::size_t position = below(damaged.size());
        switch (below(4)) {
          case 0:
            damaged[position] ^= static_cast<std::byte>(1u << below(8));
            break;
          case 1:
            damaged[position] = static_cast<std::byte>(random());
            break;
          case 2:
            damaged.erase(damaged.begin() + static_cast<std::ptrdiff_t>(position),
                          damaged.begin() + static_cast<std::ptrdiff_t>(position + below(damaged.size() - position)));
            break;
          default:
            damaged.insert(damaged.begin() + static_cast<std::ptrdiff_t>(position), below(9),
                           static_cast<std::byte>(random()));
        }
        if (damaged.empty()) break;
      }
      try {
        const auto image = ip2p::decode_image(damaged, "fuzz", options);
        ip2p::require_consistent(image, "fuzz");
        ++pictures;
      } catch (const ip2p::Error&) {
        ++errors;
      }
    }
  }
  CHECK(pictures + errors >= 3000);
  CHECK(errors > pictures);
}
