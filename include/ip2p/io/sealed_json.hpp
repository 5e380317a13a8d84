#pragma once

/// \file
/// JSON lines and files with a checksum that reveals truncation and damage, and a comparison of the settings in them.

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
#include "ip2p/io/json_field.hpp"

namespace ip2p::detail {

/// `record` as one line of JSON, newline included, with its checksum added under "sum". \param record an object
inline std::string sealed_line(nlohmann::json record) {
  const auto sum = text_checksum(record.dump());
  record["sum"] = sum;
  return record.dump() + "\n";
}

/// The record in a `sealed_line`, or nothing if the line is truncated or damaged. \param line newline optional
inline std::optional<nlohmann::json> unsealed_line(std::string_view line) {
  auto record = json_or_discarded(line);
  if (!record.is_object() || !record.contains("sum")) return {};
  const auto sum = record["sum"];
  record.erase("sum");
  if (sum != text_checksum(record.dump())) return {};
  return record;
}

/// Atomically writes a file with one `sealed_line`. \throws Error on I/O failure
inline void write_sealed(const std::filesystem::path& path, const nlohmann::json& record) {
  const auto text = sealed_line(record);
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// The record that `write_sealed` wrote, or nothing if the file is missing or damaged.
inline std::optional<nlohmann::json> read_sealed(const std::filesystem::path& path) {
  return unsealed_line(file_text(path).value_or(""));
}

/// Describes the first setting that differs, as "name: expected this, found that", with null for a missing one; "" if
/// all agree. \param wanted a JSON object  \param found one too, unless a file is not what it seems
inline std::string differing_setting(const nlohmann::json& wanted, const nlohmann::json& found) {
  if (!found.is_object()) return fmt::format("expected an object, found {}", json_text(found));
  for (const auto* names : {&wanted, &found}) {
    for (const auto& [name, value] : names->items()) {
      const auto own = wanted.value(name, nlohmann::json()), other = found.value(name, nlohmann::json());
      if (own != other) return fmt::format("{}: expected {}, found {}", name, own.dump(), other.dump());
    }
  }
  return {};
}

}  // namespace ip2p::detail
