#pragma once

/// \file
/// SHA-1 and SHA-256 (FIPS 180-4), by which the Hugging Face Hub names files. SHA-1 no longer protects against somebody
/// who makes two files with one sum; here it only detects damage.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace ip2p::detail {

/// What both sums share: blocks of 64 bytes, padded with a one, zeros and the length in bits.
/// \tparam Rounds `start`, the initial state, and `block(state, words)`, which mixes in 16 big-endian words
template <class Rounds>
class Sha {
 public:
  /// Mixes in more bytes.
  void add(std::span<const std::byte> bytes) {
    length_ += bytes.size();
    while (!bytes.empty()) {
      if (filled_ == 0 && bytes.size() >= block_.size()) {  // without a copy
        mix(bytes.data());
        bytes = bytes.subspan(block_.size());
        continue;
      }
      const auto count = std::min(block_.size() - filled_, bytes.size());
      std::memcpy(block_.data() + filled_, bytes.data(), count);
      filled_ += count;
      bytes = bytes.subspan(count);
      if (filled_ == block_.size()) {
        mix(block_.data());
        filled_ = 0;
      }
    }
  }

  /// The sum of all that was added, in hexadecimal digits. Ends the sum: nothing may be added afterwards.
  std::string finish() {
    const std::uint64_t bits = length_ * 8;
    std::array<std::byte, 72> padding{std::byte{0x80}};
    const auto zeros = (filled_ < 56 ? 56 : 120) - filled_;
    for (std::size_t i = 0; i < 8; ++i) padding[zeros + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
    add(std::span(padding).first(zeros + 8));
    std::string text;
    for (const auto word : state_) text += fmt::format("{:08x}", word);
    return text;
  }

 private:
  void mix(const std::byte* data) {
    std::array<std::uint32_t, 16> words;
    for (std::size_t i = 0; i < 16; ++i) {
      std::uint32_t word = 0;
      for (std::size_t j = 0; j < 4; ++j) word = word << 8 | std::to_integer<std::uint32_t>(data[4 * i + j]);
      words[i] = word;
    }
    Rounds::block(state_, words);
  }

  typename Rounds::State state_ = Rounds::start;
  std::array<std::byte, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t length_ = 0;
};

/// The rounds of SHA-1 (FIPS 180-4, 6.1.2), with the message schedule in a ring of 16 words (6.1.3).
struct Sha1Rounds {
  using State = std::array<std::uint32_t, 5>;
  static constexpr State start{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};

  static void block(State& state, std::array<std::uint32_t, 16>& w) {
    auto [a, b, c, d, e] = state;
    for (std::size_t t = 0; t < 80; ++t) {
      if (t >= 16) w[t % 16] = std::rotl(w[(t + 13) % 16] ^ w[(t + 8) % 16] ^ w[(t + 2) % 16] ^ w[t % 16], 1);
      const auto parity = b ^ c ^ d;
      const auto [f, k] = t < 20   ? Pair{(b & c) ^ (~b & d), 0x5a827999}
                          : t < 40 ? Pair{parity, 0x6ed9eba1}
                          : t < 60 ? Pair{(b & c) ^ (b & d) ^ (c & d), 0x8f1bbcdc}
                                   : Pair{parity, 0xca62c1d6};
      const auto next = std::rotl(a, 5) + f + e + k + w[t % 16];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
  }

 private:
  struct Pair {
    std::uint32_t f, k;
  };
};

/// The rounds of SHA-256 (FIPS 180-4, 6.2.2).
struct Sha256Rounds {
  using State = std::array<std::uint32_t, 8>;
  static constexpr State start{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

  static void block(State& state, std::array<std::uint32_t, 16>& w) {
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t first_round = 0; first_round < 64; first_round += 16) {
#pragma GCC unroll 16  // so that words and letters stay in registers
      for (std::size_t t = 0; t < 16; ++t) {
        if (first_round > 0) {
          const auto early = w[(t + 1) % 16], late = w[(t + 14) % 16];
          w[t] += (std::rotr(early, 7) ^ std::rotr(early, 18) ^ early >> 3) + w[(t + 9) % 16] +
                  (std::rotr(late, 17) ^ std::rotr(late, 19) ^ late >> 10);
        }
        const auto first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                           constants[first_round + t] + w[t];
        const auto second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + first;
        d = c;
        c = b;
        b = a;
        a = first + second;
      }
    }
    state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d,
             state[4] + e, state[5] + f, state[6] + g, state[7] + h};
  }

 private:
  static constexpr std::array<std::uint32_t, 64> constants{
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
};

using Sha1 = Sha<Sha1Rounds>;
using Sha256 = Sha<Sha256Rounds>;

}  // namespace ip2p::detail
