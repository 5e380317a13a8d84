// Thousands of damaged files: each is read consistently or refused with an Error, and nothing else happens. Also run it
// by hand with -fsanitize=address,undefined.

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::testing::ScratchDir;
using ip2p::testing::slurp;
using ip2p::testing::spill;

std::string valid_file(const ScratchDir& scratch) {
  ip2p::write_safetensors(scratch / "seed.safetensors",
                          {{"a", at::arange(6, at::kFloat).reshape({2, 3})},
                           {"b.weight", at::ones({5}, at::kHalf)},
                           {"c", at::ones({}, at::kLong)},
                           {"d", at::ones({3}, at::kBool)},
                           {"e", at::ones({0, 4})}},
                          {{"format", "pt"}, {"note", "x\"y"}});
  return slurp(scratch / "seed.safetensors");
}

/// One damaged copy: bytes changed, text inserted, a piece duplicated, removed or cut off, the length field changed.
std::string mutated(std::string bytes, std::mt19937& random) {
  static const std::string pieces[] = {"{",         "}",
                                       "[",         "]",
                                       "\"",        ":",
                                       ",",         "-1",
                                       "1e9",       "null",
                                       "\"a\"",     "0",
                                       "9",         "\xC3",
                                       "\\u0000",   "18446744073709551615",
                                       "[[[[",      "\\ud800",
                                       "{}",        "true",
                                       "[0,0]",     "\"F64\"",
                                       "\"dtype\"", "4611686018427387904",
                                       "[0,24]",    "\"shape\":[],"};
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  for (std::size_t rounds = 1 + below(3); rounds > 0 && !bytes.empty(); --rounds) {
    const std::size_t position = below(bytes.size());
    switch (below(7)) {
      case 0:
        bytes[position] = static_cast<char>(below(256));
        break;
      case 1:
        bytes.resize(position);
        break;
      case 2:
        bytes.erase(position, 1 + below(8));
        break;
      case 3:
        bytes.insert(position, pieces[below(std::size(pieces))]);
        break;
      case 4:
        bytes.insert(position, bytes.substr(position, 1 + below(80)));
        break;
      case 5:
        bytes[below(std::min<std::size_t>(8, bytes.size()))] ^= static_cast<char>(1U << below(8));
        break;
      default: {  // a change of the header that keeps the length field correct, so that parsing continues
        const auto& piece = pieces[below(std::size(pieces))];
        if (position < 8) break;
        bytes.replace(position, std::min(piece.size(), bytes.size() - position), piece);
        if (below(2) == 0 && bytes.size() > 8) {
          std::uint64_t length = 0;
          std::memcpy(&length, bytes.data(), 8);
          length += below(3);
          std::memcpy(bytes.data(), &length, 8);
        }
      }
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("safetensors headers: mutations are read consistently or refused", "[io]") {
  const ScratchDir scratch;
  const auto seed = valid_file(scratch);
  std::mt19937 random(20);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 6000; ++i) {
    const auto bytes = mutated(seed, random);
    if (bytes.size() < 8) continue;
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length > bytes.size() - 8) length = bytes.size() - 8;  // the file test below covers wrong lengths
    const auto data = bytes.size() - 8 - length;
    try {
      const auto header = ip2p::detail::parse_safetensors_header(std::string_view(bytes).substr(8, length), data, "m");
      std::uint64_t sum = 0;
      for (const auto& [name, info] : header.tensors) {
        REQUIRE(info.end <= data);
        std::uint64_t elements = 1;
        for (const auto size : info.shape) elements *= static_cast<std::uint64_t>(size);
        REQUIRE(elements * c10::elementSize(info.dtype) == info.end - info.begin);
        sum += info.end - info.begin;
      }
      REQUIRE(sum == data);
      ++accepted;
    } catch (const ip2p::Error& error) {
      REQUIRE(std::string_view(error.what()).starts_with("m: "));
      ++refused;
    }
  }
  CHECK(accepted > 50);  // the mutations must reach both sides
  CHECK(refused > 2500);
}

TEST_CASE("safetensors files: mutations are read completely or refused", "[io]") {
  const ScratchDir scratch;
  const auto seed = valid_file(scratch);
  std::mt19937 random(21);
  const auto path = scratch / "m.safetensors";
  int accepted = 0;
  for (int i = 0; i < 400; ++i) {
    spill(path, mutated(seed, random));
    try {
      const auto access = i % 2 == 0 ? ip2p::WeightAccess::copied : ip2p::WeightAccess::mapped;
      const auto file = ip2p::SafetensorsFile::open(path, {.access = access, .check_finite = i % 3 == 0});
      for (const auto& [name, info] : file.tensors()) REQUIRE(file.tensor(name).sizes() == at::IntArrayRef(info.shape));
      ++accepted;
    } catch (const ip2p::Error&) {
    }
  }
  CHECK(accepted > 5);
}
