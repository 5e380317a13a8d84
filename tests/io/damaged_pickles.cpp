// The reader of pickles and zip archives, which sees bytes of any origin, on damaged files: each is read consistently
// or refused with an Error, and nothing else happens. Without LibTorch, so that it compiles with sanitizers in seconds.
//
//   damaged_pickles MUTATIONS FILE...     thousands of damaged copies of the files and of all hostile ones; the same
//   each time
//
// tests/fuzz/pickle.cpp looks for more with libFuzzer, without an end.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/pickle.hpp"
#include "io/crafted_pickle.hpp"

namespace {

using ip2p::testing::fuzz::broken;
using ip2p::testing::fuzz::mend_sum;
using ip2p::testing::fuzz::pickle_outcome;

/// One damaged copy: bytes changed, numbers replaced, pieces duplicated, moved, removed or cut off.
std::string damaged(std::string bytes, std::mt19937& random) {
  static const std::string pieces[] = {"(",
                                       "t",
                                       "]",
                                       "}",
                                       "R",
                                       "b",
                                       "u",
                                       "Q",
                                       "0",
                                       "2",
                                       ".",
                                       "h\x01",
                                       "q\x01",
                                       "\x93",
                                       "\x81",
                                       "\x94",
                                       "ios\nsystem\n",
                                       std::string("\xFF\xFF\xFF\xFF", 4),
                                       std::string("\0\0\0\0", 4),
                                       std::string("\xFF\xFF\xFF\x7F", 4),
                                       std::string(8, '\xFF'),
                                       std::string(8, '\0'),
                                       "PK\x01\x02",
                                       "PK\x05\x06",
                                       "PK\x06\x07",
                                       "PK\x03\x04"};
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  for (std::size_t rounds = 1 + below(3); rounds > 0 && !bytes.empty(); --rounds) {
    const std::size_t position = below(bytes.size());
    switch (below(7)) {
      case 0:
        bytes[position] = static_cast<char>(below(256));
        break;
      case 1:
        bytes[position] = static_cast<char>(bytes[position] ^ (1U << below(8)));
        break;
      case 2:
        bytes.resize(position);
        break;
      case 3:
        bytes.erase(position, 1 + below(16));
        break;
      case 4:
        bytes.insert(position, pieces[below(std::size(pieces))]);
        break;
      case 5: {
        const auto& piece = pieces[below(std::size(pieces))];
        bytes.replace(position, std::min(piece.size(), bytes.size() - position), piece);
        break;
      }
      default:
        bytes.insert(position, bytes.substr(below(bytes.size()), 1 + below(80)));
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  const auto mutations = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0;
  int wrong = 0;
  std::vector<std::string> hostile, good;
  double longest = 0;
  for (const auto& file : ip2p::testing::pickled::hostile_files()) {
    const auto start = std::chrono::steady_clock::now();
    const auto message = pickle_outcome(file.bytes);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    longest = std::max(longest, seconds);
    const bool right = file.message.empty() ? message.empty() : message.find(file.message) != std::string::npos;
    if (!right || seconds > 30) {
      std::fprintf(stderr, "%s: expected '%s', got '%s' in %.1f s\n", file.name.c_str(), file.message.c_str(),
                   message.c_str(), seconds);
      ++wrong;
    }
    if (file.bytes.size() < 20000) hostile.push_back(file.bytes);
  }
  if (::access("ip2p-was-here", F_OK) == 0) broken("a pickle ran a command");
  for (int i = 2; i < argc; ++i) {
    std::ifstream stream(argv[i], std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    if (!pickle_outcome(bytes).empty()) {
      std::fprintf(stderr, "%s: %s\n", argv[i], pickle_outcome(bytes).c_str());
      ++wrong;
    }
    // Cut off anywhere it must be refused.
    for (std::size_t length = 0; length < bytes.size(); length += 1 + length / 1000) {
      if (!pickle_outcome(std::string_view(bytes).substr(0, length)).empty()) continue;
      std::fprintf(stderr, "%s: is read although it is cut off at byte %zu\n", argv[i], length);
      ++wrong;
    }
    good.push_back(bytes);
  }
  std::mt19937 random(26);
  std::size_t read = 0, refused = 0;
  for (unsigned long i = 0; i < mutations; ++i) {
    const auto& seeds = i % 4 == 0 || good.empty() ? hostile : good;
    auto bytes = damaged(seeds[i / 4 % seeds.size()], random);
    if (i % 3 != 0) mend_sum(bytes);
    const auto start = std::chrono::steady_clock::now();
    ++(pickle_outcome(bytes).empty() ? read : refused);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    longest = std::max(longest, seconds);
    if (seconds > 30) broken("a damaged file took more than 30 s");
  }
  std::printf("%lu damaged files: %zu read, %zu refused; the slowest of all files took %.2f s\n", mutations, read,
              refused, longest);
  // The damage must reach both sides.
  if (mutations >= 1000 && (read < mutations / 50 || refused < mutations / 3)) ++wrong;
  return wrong == 0 ? 0 : 1;
}
