#pragma once

/// \file
/// Lines and files of JSON that show whether they are whole, and the settings that runs compare in them.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ip2p/core/checksum.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"

namespace ip2p::detail {

/// A line, with its end, that holds `record` and under "sum" its checksum. \param record an object
inline std::string sealed_line(nlohmann::json record) {
  const auto sum = text_checksum(record.dump());
  record["sum"] = sum;
  return record.dump() + "\n";
}

/// The record of a `sealed_line`, or nothing where it is cut or damaged. \param line with or without its end
inline std::optional<nlohmann::json> unsealed_line(std::string_view line) {
  auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object() || !record.contains("sum")) return {};
  const auto sum = record["sum"];
  record.erase("sum");
  if (sum != text_checksum(record.dump())) return {};
  return record;
}

/// Writes a file of one `sealed_line`, in one step. \throws Error on I/O failure
inline void write_sealed(const std::filesystem::path& path, const nlohmann::json& record) {
  const auto text = sealed_line(record);
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// What `write_sealed` was given; nothing where the file is missing or damaged.
inline std::optional<nlohmann::json> read_sealed(const std::filesystem::path& path) {
  return unsealed_line(file_text(path).value_or(""));
}

/// "name: expected this, found that" of the first setting that differs, with null for one that is missing; "" where all
/// agree. \param wanted, found objects
inline std::string differing_setting(const nlohmann::json& wanted, const nlohmann::json& found) {
  for (const auto* names : {&wanted, &found}) {
    for (const auto& [name, value] : names->items()) {
      const auto own = wanted.value(name, nlohmann::json()), other = found.value(name, nlohmann::json());
      if (own != other) return fmt::format("{}: expected {}, found {}", name, own.dump(), other.dump());
    }
  }
  return {};
}

}  // namespace ip2p::detail
