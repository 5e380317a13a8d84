#include "contents.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/sha.hpp"

namespace example {
namespace {

namespace fs = std::filesystem;
using ip2p::detail::Sha256;

void add(Sha256& sum, std::string_view text) { sum.add(std::as_bytes(std::span(text))); }

/// 64 of the 256 bits, which tell files apart that nobody made alike on purpose.
std::string shortened(const std::string& sum) { return sum.substr(0, 16); }
std::string digest_of(Sha256& sum) { return shortened(sum.finish()); }

/// Mixes in all of up to 64 KiB, or as many parts of 4 KiB from first to last. \param read gives bytes [from, from + n)
template <class Read>
void add_parts(Sha256& sum, std::uint64_t size, const Read& read) {
  constexpr std::uint64_t part = 4096, parts = 16;
  if (size <= part * parts) return read(0, size);
  for (std::uint64_t i = 0; i < parts; ++i) read((size - part) * i / (parts - 1), part);
}

void add_file(Sha256& sum, const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code problem;
  const auto size = fs::file_size(path, problem);
  ip2p::require(file.good() && !problem, "cannot open '{}'", path.string());
  add(sum, fmt::format("{} {}\n", path.filename().string(), size));
  std::vector<char> bytes;
  add_parts(sum, size, [&](std::uint64_t from, std::uint64_t count) {
    bytes.resize(count);
    file.seekg(static_cast<std::streamoff>(from));
    file.read(bytes.data(), static_cast<std::streamsize>(count));
    ip2p::require(file.good(), "cannot read '{}'", path.string());
    sum.add(std::as_bytes(std::span(bytes)));
  });
}

/// Files or folders directly in `folder`, sorted by name.
template <class Wanted>
std::vector<fs::path> listed(const fs::path& folder, const Wanted& wanted) {
  std::vector<fs::path> found;
  for (const auto& entry : ip2p::detail::folder_entries(folder)) {
    if (wanted(entry)) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

std::string sum_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  ip2p::require(file.good(), "{}: cannot open", path.string());
  Sha256 sum;
  std::vector<char> block(1 << 16);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    sum.add(std::as_bytes(std::span(block)).first(static_cast<std::size_t>(file.gcount())));
  }
  ip2p::detail::require_read(file, path);
  return sum.finish();
}

std::string file_digest(const fs::path& path) { return shortened(sum_of_file(path)); }

std::string addition_digest(const std::string& text) {
  const auto colon = text.rfind(':');
  std::error_code ignored;
  const bool scaled = colon != text.npos && !fs::exists(text, ignored);
  const fs::path path = scaled ? text.substr(0, colon) : text;
  return files_digest({&path, 1}) + text.substr(path.string().size());
}

std::string files_digest(std::span<const fs::path> paths) {
  Sha256 sum;
  for (const auto& path : paths) add_file(sum, path);
  return digest_of(sum);
}

/// Of the files in a folder with one of these extensions.
static std::string digest_of_kinds(const fs::path& folder, std::span<const char* const> kinds) {
  return files_digest(listed(folder, [&](const fs::directory_entry& entry) {
    const auto kind = entry.path().extension();
    return entry.is_regular_file() && std::ranges::any_of(kinds, [&](const char* one) { return kind == one; });
  }));
}

std::string folder_digest(const fs::path& folder) {
  static constexpr std::array kinds{".json", ".txt", ".safetensors", ".bin"};
  return digest_of_kinds(folder, kinds);
}

std::string pictures_digest(const fs::path& folder) {
  static constexpr std::array kinds{".jsonl", ".png", ".jpg", ".jpeg", ".webp"};
  return digest_of_kinds(folder, kinds);
}

std::string model_digest(const ip2p::ModelFiles& files) {
  Sha256 sum;
  for (const char* component : {"clip", "scheduler", "text_encoder", "unet", "vae"}) {
    if (!files.has(component)) continue;
    auto config = files.config(component);
    for (const char* origin : {"_name_or_path", "_diffusers_version", "transformers_version"}) config.erase(origin);
    add(sum, fmt::format("{} {}\n", component, config.dump()));
    for (const auto& [name, entry] : files.weights(component)) {
      add(sum, fmt::format("{} {} {}\n", name, ip2p::shape_text(entry.shape), c10::toString(entry.dtype)));
      const auto values = entry.read().cpu().contiguous();
      const std::span bytes(static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes());
      add_parts(sum, bytes.size(),
                [&](std::uint64_t from, std::uint64_t count) { sum.add(bytes.subspan(from, count)); });
    }
  }
  const auto tokenizer = files.tokenizer();
  for (const auto& path : {tokenizer.vocab, tokenizer.merges}) {
    if (fs::exists(path)) add_file(sum, path);
  }
  return digest_of(sum);
}

std::string pairs_digest(const fs::path& set) {
  Sha256 sum;
  bool found = false;
  for (const char* list : {"seeds.json", "shards.json", "metadata.jsonl", "train/metadata.jsonl",
                           "validation/metadata.jsonl", "test/metadata.jsonl"}) {
    if (!fs::exists(set / list)) continue;
    found = true;
    add(sum, fmt::format("{} {}\n", list, file_digest(set / list)));
  }
  if (!found) {
    for (const auto& prompt : listed(set, [](const fs::directory_entry& entry) { return entry.is_directory(); })) {
      add(sum, prompt.filename().string() + "\n");
    }
  }
  return digest_of(sum);
}

}  // namespace example
