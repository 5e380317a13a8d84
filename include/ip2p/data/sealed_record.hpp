#pragma once

/// \file
/// Small JSON files that tell whether they are whole.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "ip2p/data/shard_index.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// The bytes of a file; none where it cannot be read.
inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::string text_crc32(const std::string& text) {
  return fmt::format("{:08x}", crc32_of(std::as_bytes(std::span(text))));
}

/// Writes `record` with its checksum, in one step. \throws Error on I/O failure
inline void write_sealed(const std::filesystem::path& path, const nlohmann::json& record) {
  const auto text = nlohmann::json{{"record", record}, {"crc32", text_crc32(record.dump())}}.dump() + "\n";
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// What `write_sealed` was given; nothing where the file is missing or damaged.
inline std::optional<nlohmann::json> read_sealed(const std::filesystem::path& path) {
  const auto json = nlohmann::json::parse(text_of(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("record") || !json.contains("crc32")) return {};
  if (json.at("crc32") != text_crc32(json.at("record").dump())) return {};
  return json.at("record");
}

}  // namespace ip2p::detail
