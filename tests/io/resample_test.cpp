#include <ip2p/io/resample.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

const nlohmann::json& golden() {
  static const auto parsed = nlohmann::json::parse(std::ifstream(ip2p::testing::fixture("io/fixtures/resample.json")));
  return parsed;
}

/// The picture that make_image_fixtures.py calls `noise`.
ip2p::Image noise(std::int64_t width, std::int64_t height, std::uint32_t seed) {
  ip2p::Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  std::uint32_t state = seed;
  for (auto& value : image.pixels) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<std::uint8_t>(state >> 24);
    if (seed % 2 == 1) value = value > 127 ? 255 : 0;
  }
  return image;
}

std::string fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const std::uint8_t byte : bytes) value = (value ^ byte) * 0x100000001b3;
  return fmt::format("{:016x}", value);
}

std::string hex(const std::vector<std::uint8_t>& bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

ip2p::Filter filter_named(const std::string& name) {
  static const std::map<std::string, ip2p::Filter> filters = {{"box", ip2p::Filter::box},
                                                              {"bilinear", ip2p::Filter::bilinear},
                                                              {"hamming", ip2p::Filter::hamming},
                                                              {"bicubic", ip2p::Filter::bicubic},
                                                              {"lanczos", ip2p::Filter::lanczos}};
  return filters.at(name);
}

ip2p::Image resampled(const nlohmann::json& wanted, ip2p::PassOrder order) {
  const auto image = noise(wanted["in"][0], wanted["in"][1], wanted["seed"]);
  const auto filter = filter_named(wanted["filter"]);
  const std::int64_t width = wanted["out"][0], height = wanted["out"][1];
  if (wanted.contains("fit")) return ip2p::fit(image, width, height, filter, order);
  std::optional<ip2p::Box> box;
  if (wanted.contains("box")) {
    const auto& corners = wanted["box"];
    box = ip2p::Box{corners[0], corners[1], corners[2], corners[3]};
  }
  return ip2p::resize(image, width, height, filter, box, order);
}

void check_cases(ip2p::PassOrder order) {
  std::size_t whole = 0, boxes = 0, fits = 0;
  for (const auto& wanted : golden()["cases"]) {
    const auto result = resampled(wanted, order);
    const bool older = order == ip2p::PassOrder::horizontal_first && wanted.contains("horizontal_first");
    const auto& expected = wanted[older ? "horizontal_first" : "adaptive"];
    INFO(wanted["in"] << " -> " << wanted["out"] << " " << wanted["filter"] << " seed " << wanted["seed"]);
    CHECK(result.width == wanted["out"][0]);
    CHECK(result.height == wanted["out"][1]);
    const std::string pixels = expected["pixels"];
    if (!pixels.empty()) CHECK(hex(result.pixels) == pixels);
    CHECK(fnv1a(result.pixels) == expected["fnv"]);
    (wanted.contains("fit") ? fits : wanted.contains("box") ? boxes : whole) += 1;
  }
  CHECK(whole >= 40 * 3);
  CHECK(boxes >= 40);
  CHECK(fits >= 30);
}

}  // namespace

TEST_CASE("resize and fit equal Pillow 13 bit for bit", "[io]") { check_cases(ip2p::PassOrder::adaptive); }

TEST_CASE("resize and fit with PassOrder::horizontal_first equal older Pillow bit for bit", "[io]") {
  check_cases(ip2p::PassOrder::horizontal_first);
}

TEST_CASE("resize returns the same bits with several threads", "[io]") {
  const auto image = noise(1500, 1100, 6);  // large enough to be divided
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = ip2p::resize(image, 700, 533, ip2p::Filter::lanczos);
  at::set_num_threads(3);
  const auto divided = ip2p::resize(image, 700, 533, ip2p::Filter::lanczos);
  at::set_num_threads(before);
  CHECK(alone == divided);
}

TEST_CASE("resize of a constant picture is constant", "[io]") {
  for (const auto filter : {ip2p::Filter::box, ip2p::Filter::bicubic, ip2p::Filter::lanczos}) {
    const ip2p::Image gray{37, 29, std::vector<std::uint8_t>(37 * 29 * 3, 255)};
    const auto result = ip2p::resize(gray, 61, 11, filter);
    CHECK(result.pixels == std::vector<std::uint8_t>(61 * 11 * 3, 255));
  }
}

TEST_CASE("resize refuses sizes and boxes it cannot handle, by name", "[io]") {
  const auto image = noise(8, 6, 2);
  const auto filter = ip2p::Filter::lanczos;
  CHECK_THROWS_WITH(ip2p::resize(image, 0, 5, filter), Contains("got 0x5"));
  CHECK_THROWS_WITH(ip2p::resize(image, 5, -1, filter), Contains("got 5x-1"));
  CHECK_THROWS_WITH(ip2p::resize(image, 1 << 21, 1, filter), Contains("1048576"));
  CHECK_THROWS_WITH(ip2p::resize(image, 4, 4, filter, ip2p::Box{0, 0, 9, 6}), Contains("box inside 8x6"));
  CHECK_THROWS_WITH(ip2p::resize(image, 4, 4, filter, ip2p::Box{-1, 0, 8, 6}), Contains("box inside 8x6"));
  CHECK_THROWS_WITH(ip2p::resize(image, 4, 4, filter, ip2p::Box{3, 0, 3, 6}), Contains("box inside 8x6"));
  CHECK_THROWS_WITH(ip2p::resize(image, 4, 4, filter, ip2p::Box{0, 0, std::nanf(""), 6}), Contains("box"));
  CHECK_THROWS_WITH(ip2p::resize({8, 6, {}}, 4, 4, filter), Contains("expected 144 bytes"));
  CHECK_THROWS_WITH(ip2p::fit(image, 4, 0, filter), Contains("got 4x0"));
}

TEST_CASE("released_size follows the released rule in double arithmetic", "[io]") {
  for (const auto& row : golden()["released_sizes"]) {
    INFO(row);
    // Where the released rule gives 0, no edit is possible, and the smallest size is taken.
    const auto side = [&row](int index) { return std::max(row[index].get<std::int64_t>(), std::int64_t{64}); };
    const ip2p::Size expected{side(3), side(4)};
    CHECK(ip2p::released_size(row[0], row[1], row[2]) == expected);
  }
  CHECK(ip2p::released_size(720, 480, 512) == ip2p::Size{576, 384});
  CHECK(ip2p::released_size(1920, 1080, 512) == ip2p::Size{512, 320});
  CHECK(ip2p::released_size(4032, 3024, 512) == ip2p::Size{512, 384});
  for (const std::int64_t side : {98, 103, 107, 322, 347, 644}) {
    CHECK(ip2p::released_size(side, side, 512) == ip2p::Size{448, 448});
  }
  CHECK_THROWS_WITH(ip2p::released_size(0, 5, 512), Contains("0x5"));
}
