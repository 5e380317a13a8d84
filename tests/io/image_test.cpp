#include <ip2p/io/exif.hpp>
#include <ip2p/io/image.hpp>
#include <ip2p/io/stb.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::Image;
using ip2p::testing::fixture;

std::vector<std::uint8_t> from_hex(const std::string& text) {
  std::vector<std::uint8_t> bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

void check_pixels(const Image& image, const nlohmann::json& size, const std::string& pixels, bool exact = true) {
  CHECK(image.width == size[0]);
  CHECK(image.height == size[1]);
  const auto expected = from_hex(pixels);
  REQUIRE(image.pixels.size() == expected.size());
  int largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(int{image.pixels[i]} - int{expected[i]}));
  }
  // stb's JPEG decoder rounds in other places than libjpeg, and enlarges colour in another way.
  CHECK(largest <= (exact ? 0 : 48));
}

Image gradient(std::int64_t width, std::int64_t height) {
  Image image{width, height, {}};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (const std::int64_t value : {x * 255 / width, y * 255 / height, (x + y) * 128 / (width + height)}) {
        image.pixels.push_back(static_cast<std::uint8_t>(value));
      }
    }
  }
  return image;
}

double mean_difference(const Image& a, const Image& b) {
  REQUIRE(a.pixels.size() == b.pixels.size());
  double total = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) total += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
  return total / static_cast<double>(a.pixels.size());
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t entries(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("read_image returns Pillow's pixels for every kind of file", "[io]") {
  const auto golden = nlohmann::json::parse(std::ifstream(fixture("io/fixtures/images.json")));
  std::size_t read = 0, over_white = 0, turned = 0;
  for (const auto& picture : golden["pictures"]) {
    const std::string name = picture["file"];
    INFO(name);
    const auto path = fixture("io/fixtures/images") / name;
    if (!IP2P_HAS_WEBP && path.extension() == ".webp") {
      CHECK_THROWS_WITH(ip2p::read_image(path), Contains("unsupported format, got WebP"));
      continue;
    }
    const bool exact = IP2P_HAS_JPEG || path.extension() != ".jpg";
    check_pixels(ip2p::read_image(path, {.alpha = ip2p::Alpha::drop}), picture["size"], picture["pixels"], exact);
    ++read;
    if (picture.contains("white")) {
      check_pixels(ip2p::read_image(path), picture["size"], picture["white"]);
      ++over_white;
    }
    const auto as_stored = ip2p::read_image(path, ip2p::released_reading());
    if (picture.contains("stored")) {
      check_pixels(as_stored, picture["stored"]["size"], picture["stored"]["pixels"], exact);
      ++turned;
    } else {
      check_pixels(as_stored, picture["size"], picture["pixels"], exact);
    }
  }
  CHECK(read >= (IP2P_HAS_WEBP ? 38 : 37));
  CHECK(over_white >= 5);
  CHECK(turned >= 9);
}

TEST_CASE("read_image recognises the format by the content, not by the name", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  std::filesystem::copy_file(fixture("io/fixtures/images/rgb_420.jpg"), scratch / "photo.png");
  CHECK(ip2p::read_image(scratch / "photo.png") == ip2p::read_image(fixture("io/fixtures/images/rgb_420.jpg")));
}

TEST_CASE("exif_orientation takes damaged blocks to mean upright", "[io]") {
  const auto orientation = [](std::string_view block) {
    return ip2p::exif_orientation(std::as_bytes(std::span(block)));
  };
  using namespace std::string_view_literals;
  const auto valid = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"sv;
  CHECK(orientation(valid) == 6);
  CHECK(orientation("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0"sv) == 3);
  for (std::size_t length = 0; length < valid.size(); ++length) CHECK(orientation(valid.substr(0, length)) == 1);
  CHECK(orientation("II*\0\xff\xff\xff\xff\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"sv) == 1);
  CHECK(orientation("II*\0\x08\0\0\0\xff\xff\x13\x01\x03\0\x01\0\0\0\x06\0\0\0"sv) == 1);
  CHECK(orientation("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"sv) == 1);
  CHECK_THROWS_WITH(ip2p::apply_orientation(gradient(2, 2), 9), Contains("expected 1 to 8, got 9"));
}

TEST_CASE("write_image and read_image: PNG is exact, JPEG and WebP are close", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const auto image = gradient(67, 41);
  ip2p::write_image(scratch / "exact.PNG", image);
  CHECK(ip2p::read_image(scratch / "exact.PNG") == image);
  ip2p::write_image(scratch / "close.jpg", image, 95);
  CHECK(mean_difference(ip2p::read_image(scratch / "close.jpg"), image) < 2.0);
  ip2p::write_image(scratch / "coarse.jpeg", image, 10);
  CHECK(std::filesystem::file_size(scratch / "coarse.jpeg") < std::filesystem::file_size(scratch / "close.jpg"));
  if (IP2P_HAS_WEBP) {
    ip2p::write_image(scratch / "close.webp", image, 95);
    CHECK(mean_difference(ip2p::read_image(scratch / "close.webp"), image) < 3.0);
  }
}

TEST_CASE("write_image refuses what it cannot write, by name", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const auto image = gradient(4, 4);
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out.tiff", image), Contains(".png") && Contains("'.tiff'"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out", image), Contains("extension"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out.jpg", image, 0), Contains("quality of 1 to 100, got 0"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out.png", {3, 3, {1, 2}}), Contains("expected 27 bytes"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out.png", {}), Contains("0x0"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "out.jpg", gradient(65501, 1)), Contains("65500"));
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "none" / "out.png", image), Contains("no folder"));
  CHECK_THROWS_WITH(ip2p::write_image("/dev/null/x.png", image), Contains("no folder '/dev/null'"));
  std::filesystem::create_directory(scratch / "folder.png");
  CHECK_THROWS_WITH(ip2p::write_image(scratch / "folder.png", image), Contains("it is a folder"));
  CHECK(entries(scratch.path()) == 1);  // no temporary file is left behind
}

TEST_CASE("write_file_atomically keeps the old file when the disk is full", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const std::string before = "before";
  ip2p::write_file_atomically(scratch / "out", std::as_bytes(std::span(before)));
  const std::vector<std::byte> large(1 << 16);
  // A limit on the size of files stands in for a full disk: the write stops halfway.
  rlimit old_limit = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 12, old_limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    ip2p::write_file_atomically(scratch / "out", large);
  } catch (const ip2p::Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK_THAT(message, Contains("cannot write") && Contains("write failed") && Contains("too large"));
  CHECK(content_of(scratch / "out") == "before");
  CHECK(entries(scratch.path()) == 1);
}

TEST_CASE("AtomicFile shows nothing before commit, keeps permissions and follows links", "[io]") {
  const ip2p::testing::ScratchDir scratch;
  const std::string first = "first", second = "second";
  ip2p::write_file_atomically(scratch / "real", std::as_bytes(std::span(first)));
  std::filesystem::permissions(scratch / "real", std::filesystem::perms(0640));
  std::filesystem::create_symlink("real", scratch / "link");
  {
    ip2p::AtomicFile file(scratch / "link");
    file.write(std::as_bytes(std::span(second)));
    CHECK(content_of(scratch / "real") == "first");
  }
  CHECK(content_of(scratch / "real") == "first");
  CHECK(entries(scratch.path()) == 2);
  ip2p::write_file_atomically(scratch / "link", std::as_bytes(std::span(second)));
  CHECK(content_of(scratch / "real") == "second");
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(std::filesystem::status(scratch / "real").permissions() == std::filesystem::perms(0640));
  CHECK(entries(scratch.path()) == 2);
}

TEST_CASE("to_tensor and from_tensor are inverse, and tensors are channel-first", "[io]") {
  const auto image = gradient(5, 3);
  const auto tensor = ip2p::to_tensor(image);
  REQUIRE(tensor.sizes() == at::IntArrayRef({3, 3, 5}));
  CHECK(tensor.scalar_type() == at::kByte);
  CHECK(tensor.is_contiguous());
  CHECK(tensor.data_ptr<std::uint8_t>()[(1 * 3 + 2) * 5 + 4] == image.pixels[(2 * 5 + 4) * 3 + 1]);
  CHECK(ip2p::from_tensor(tensor) == image);
  CHECK(ip2p::from_tensor(tensor.transpose(1, 2)).width == 3);
  CHECK_THROWS_WITH(ip2p::from_tensor(tensor.unsqueeze(0)), Contains("[3, H, W]") && Contains("[1, 3, 3, 5]"));
  CHECK_THROWS_WITH(ip2p::from_tensor(tensor.to(at::kFloat)), Contains("uint8") && Contains("Float"));
  CHECK_THROWS_WITH(ip2p::from_tensor(at::Tensor()), Contains("none"));
}

TEST_CASE("read_image decodes real photographs", "[io]") {
  const auto data = ip2p::testing::shared_data();
  if (!data || !std::filesystem::is_directory(*data / "coco_mini")) {
    WARN("skipped: no photographs, set IP2P_TEST_DATA");
    return;
  }
  std::size_t photographs = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(*data / "coco_mini")) {
    if (entry.path().extension() != ".jpg") continue;
    const auto image = ip2p::read_image(entry.path());
    CHECK(image.width > 16);
    if (++photographs == 50) break;
  }
  CHECK(photographs > 0);
}
