// The reader of pickles and zip archives, which sees bytes of any origin, on damaged files: each is read consistently
// or refused with an Error, and nothing else happens. Without LibTorch, so that it compiles with sanitizers in seconds.
//
//   pickle_fuzz MUTATIONS FILE...     thousands of damaged copies of the files and of all hostile ones; the same each
//   time
//
// With libFuzzer instead:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -DIP2P_LIBFUZZER -DFMT_HEADER_ONLY -Iinclude -Itests
//     tests/fuzz/pickle_fuzz.cpp -o pickle_fuzz && ./pickle_fuzz tests/io/fixtures/pickles

#include <sys/mman.h>
#include <unistd.h>

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

#include "io/crafted_pickle.hpp"
#include "ip2p/io/pickle_tensors.hpp"

namespace {

[[noreturn]] void broken(const char* what) {
  std::fprintf(stderr, "pickle_fuzz: %s\n", what);
  std::abort();
}

/// A file in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("pickle", MFD_CLOEXEC)) {
    if (descriptor_ < 0) broken("no memory for a file");
    while (!bytes.empty()) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written <= 0) broken("a file in memory cannot be written");
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// Reads the bytes as a file. Returns the message of the error, or nothing where it was read; then all must lie within
/// the file.
std::string outcome(std::string_view bytes) {
  const MemoryFile file(bytes);
  try {
    const ip2p::detail::OpenedFile opened(file.path());
    const auto found = ip2p::detail::read_pickled_tensors(opened);
    for (const auto& [name, tensor] : found.tensors) {
      if (tensor.storage >= found.storages.size()) broken("a tensor without a storage");
      const auto& place = found.storages[tensor.storage].place;
      if (place.begin > bytes.size() || place.bytes > bytes.size() - place.begin) broken("a storage outside the file");
      if (tensor.begin < place.begin || tensor.begin > place.begin + place.bytes ||
          tensor.span > place.begin + place.bytes - tensor.begin) {
        broken("a tensor outside its storage");
      }
      std::uint64_t last = 0, elements = 1;
      for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        if (tensor.shape[i] < 0 || tensor.strides[i] < 0) broken("a negative size");
        elements *= static_cast<std::uint64_t>(tensor.shape[i]);
        last += static_cast<std::uint64_t>((tensor.shape[i] - 1) * tensor.strides[i]);
      }
      if (tensor.span != (elements == 0 ? 0 : (last + 1) * tensor.element_bytes)) broken("a tensor of another span");
      if (tensor.span % tensor.element_bytes != 0) broken("a part of an element");
    }
    return {};
  } catch (const ip2p::Error& error) {
    const std::string message = error.what();
    if (message.empty()) broken("an error without a message");
    return message;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  outcome({reinterpret_cast<const char*>(data), size});
  return 0;
}

#ifndef IP2P_LIBFUZZER
namespace {

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

/// Puts the right sum of the pickle into an archive, so that what was damaged in it is reached.
void mend_sum(std::string& bytes) {
  const auto list = bytes.rfind("/data.pkl");
  const auto local = bytes.find("/data.pkl");
  if (list == std::string::npos || list == local || local < 30) return;
  const auto header = bytes.rfind("PK\x01\x02", list), start = bytes.rfind("PK\x03\x04", local);
  if (header == std::string::npos || start == std::string::npos || header + 46 > bytes.size()) return;
  std::uint32_t size = 0;
  std::uint16_t name = 0, extra = 0;
  std::memcpy(&size, bytes.data() + header + 24, 4);
  std::memcpy(&name, bytes.data() + start + 26, 2);
  std::memcpy(&extra, bytes.data() + start + 28, 2);
  const auto begin = start + 30 + name + extra;
  if (begin > bytes.size() || size > bytes.size() - begin) return;
  const auto sum = ip2p::detail::crc32(std::as_bytes(std::span(bytes)).subspan(begin, size));
  std::memcpy(bytes.data() + header + 16, &sum, 4);
}

}  // namespace

int main(int argc, char** argv) {
  const auto mutations = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0;
  int wrong = 0;
  std::vector<std::string> hostile, good;
  double longest = 0;
  for (const auto& file : ip2p::testing::pickled::hostile_files()) {
    const auto start = std::chrono::steady_clock::now();
    const auto message = outcome(file.bytes);
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
    if (!outcome(bytes).empty()) {
      std::fprintf(stderr, "%s: %s\n", argv[i], outcome(bytes).c_str());
      ++wrong;
    }
    // Cut off anywhere it must be refused.
    for (std::size_t length = 0; length < bytes.size(); length += 1 + length / 1000) {
      if (!outcome(std::string_view(bytes).substr(0, length)).empty()) continue;
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
    ++(outcome(bytes).empty() ? read : refused);
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
#endif
