#pragma once

// What tests of tokenizers share with tests/parity/make_tokenizer_fixtures.py: its hash and its random texts.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/text/unicode.hpp"

namespace ip2p::testing {

/// Lines of a fixture, comments left out.
inline std::vector<std::string> read_lines(const std::filesystem::path& path) {
  std::ifstream stream(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with("# ")) lines.push_back(line);
  }
  return lines;
}

/// FNV-1a over 32-bit little-endian values, beginning with the count.
struct IdsHash {
  std::uint64_t value = 0xCBF29CE484222325ULL;
  void add(std::int64_t number) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ static_cast<std::uint64_t>((number >> shift) & 0xFF)) * 0x100000001B3ULL;
    }
  }
  void add(const std::vector<std::int64_t>& ids) {
    add(static_cast<std::int64_t>(ids.size()));
    for (const auto id : ids) add(id);
  }
  [[nodiscard]] std::string text() const { return fmt::format("{:016x}", value); }
};

inline std::string utf8(char32_t c) {
  std::string out;
  detail::append_utf8(out, c);
  return out;
}

/// Texts of the script's 64-bit linear congruential generator.
inline std::vector<std::string> random_texts(std::size_t count) {
  constexpr std::pair<std::uint64_t, std::uint64_t> pools[] = {
      {0x20, 0x7E},     {0x41, 0x5A},       {0x300, 0x36F},     {0xC0, 0x24F},      {0x370, 0x3FF},
      {0x1100, 0x11FF}, {0xAC00, 0xD7A3},   {0x1E00, 0x1FFF},   {0x2000, 0x206F},   {0x590, 0x74F},
      {0x900, 0xDFF},   {0xF00, 0xFFF},     {0x1F1E6, 0x1F1FF}, {0x1F300, 0x1F6FF}, {0xF900, 0xFAFF},
      {0x3040, 0x30FF}, {0x1D160, 0x1D1FF}, {0x1000, 0x1AFF},   {0x0, 0xD7FF},      {0xE000, 0x10FFFF}};
  constexpr const char* phrases[] = {"<|endoftext|>", "<|STARTOFTEXT|>", "'s", "'LL", "  ", "!!", "the", "</w>"};
  std::uint64_t state = 1;
  const auto draw = [&](std::uint64_t n) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state >> 33) % n;
  };
  std::vector<std::string> texts;
  while (texts.size() < count) {
    std::string text;
    for (auto left = 1 + draw(24); left > 0; --left) {
      const auto pool = draw(std::size(pools) + 1);
      if (pool == std::size(pools)) {
        text += phrases[draw(std::size(phrases))];
      } else {
        text += utf8(static_cast<char32_t>(pools[pool].first + draw(pools[pool].second - pools[pool].first + 1)));
      }
    }
    texts.push_back(text);
  }
  return texts;
}

}  // namespace ip2p::testing
