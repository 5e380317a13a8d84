#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/io/image.hpp"
#include "support/paths.hpp"

namespace ip2p::testing {

/// A picture with structure everywhere; tests/parity/make_data_fixtures.py makes the same.
inline Image patterned(std::int64_t width, std::int64_t height, std::int64_t shift) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        image.pixels[static_cast<std::size_t>((y * width + x) * 3 + c)] =
            static_cast<std::uint8_t>(x * 7 + y * 13 + x * y / 16 + c * 50 + shift);
      }
    }
  }
  return image;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Writes the pictures of one pair into the folder of its prompt.
inline void write_pair(const std::filesystem::path& prompt, const std::string& seed, std::int64_t shift,
                       std::int64_t width = 40, std::int64_t height = 32) {
  write_image(prompt / (seed + "_0.jpg"), patterned(width, height, shift));
  write_image(prompt / (seed + "_1.jpg"), patterned(width, height, shift + 100));
}

/// A set in the published layout: prompt i of `count` has 1 + i % 3 pairs, named "10", "20", ..., and the instruction
/// "edit i". Odd prompts use the generator's key for the caption, even ones that of the released set.
inline void write_pair_folder(const std::filesystem::path& root, int count) {
  auto list = nlohmann::json::array();
  for (int i = 0; i < count; ++i) {
    const auto name = fmt::format("{:07}", i);
    std::filesystem::create_directories(root / name);
    nlohmann::json words{{"edit", fmt::format("edit {}", i)},
                         {i % 2 == 0 ? "input" : "caption", fmt::format("before {}", i)},
                         {"output", fmt::format("after \u00e9 {}", i)}};
    if (i == 0) words["url"] = "u0";
    write_text(root / name / "prompt.json", words.dump());
    auto seeds = nlohmann::json::array();
    for (int seed = 10; seed <= 10 + i % 3 * 10; seed += 10) {
      write_pair(root / name, std::to_string(seed), i * 30 + seed);
      seeds.push_back(std::to_string(seed));
    }
    list.push_back({name, seeds});
  }
  write_text(root / "seeds.json", list.dump());
}

}  // namespace ip2p::testing
