#pragma once

/// \file
/// The header of a safetensors file (`u64 n, little endian | n bytes of JSON | tensor bytes`), parsed and validated
/// from memory alone, in the order of the reference implementation (huggingface/safetensors) and beyond it where noted.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors_json.hpp"
#include "ip2p/io/utf8.hpp"

namespace ip2p {

static_assert(std::endian::native == std::endian::little, "ip2p: safetensors files are read on little-endian machines");

/// What a safetensors header says about one tensor.
struct SafetensorsInfo {
  at::ScalarType dtype = at::kFloat;  ///< type of the elements
  std::vector<std::int64_t> shape;    ///< sizes; empty for a scalar
  std::uint64_t begin = 0;            ///< first byte, counted from the end of the header
  std::uint64_t end = 0;              ///< one past the last byte
};

/// A validated header: tensors by name (names are opaque, never paths), and the `__metadata__` strings.
struct SafetensorsHeader {
  std::map<std::string, SafetensorsInfo, std::less<>> tensors;
  std::map<std::string, std::string> metadata;  ///< Strings by name; empty where the file has none.
};

namespace detail {

/// Longest header that the reference reads, in bytes.
inline constexpr std::uint64_t max_safetensors_header = 100'000'000;

struct SafetensorsDtype {
  std::string_view name;
  at::ScalarType type;
};

/// The dtypes that LibTorch has, in the order in which the reference writes tensors: widest alignment first.
inline constexpr std::array<SafetensorsDtype, 19> safetensors_dtypes{{
    {"U64", at::kUInt64},
    {"I64", at::kLong},
    {"F64", at::kDouble},
    {"C64", at::kComplexFloat},
    {"F32", at::kFloat},
    {"U32", at::kUInt32},
    {"I32", at::kInt},
    {"BF16", at::kBFloat16},
    {"F16", at::kHalf},
    {"U16", at::kUInt16},
    {"I16", at::kShort},
    {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
    {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
    {"F8_E8M0", at::kFloat8_e8m0fnu},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};

/// Place of `type` in `safetensors_dtypes`, or nothing for a type that the format lacks.
inline std::optional<std::size_t> safetensors_rank(at::ScalarType type) {
  for (std::size_t i = 0; i < safetensors_dtypes.size(); ++i) {
    if (safetensors_dtypes[i].type == type) return i;
  }
  return std::nullopt;
}

/// "F16" for at::kHalf: the type's name in the format; LibTorch's own name for types that the format lacks.
inline std::string safetensors_dtype_name(at::ScalarType type) {
  const auto rank = safetensors_rank(type);
  return rank ? std::string(safetensors_dtypes[*rank].name) : std::string(c10::toString(type));
}

/// Names what a file that is not a safetensors file seems to be, from its first bytes; empty if nothing is recognised.
inline std::string_view foreign_file_kind(std::string_view start) {
  if (start.starts_with("version https://git-lfs")) {
    return "a git-LFS pointer, not the weights themselves; fetch them with 'git lfs pull'";
  }
  const auto first = start.find_first_not_of(" \t\r\n");
  const std::string_view text = first == std::string_view::npos ? std::string_view{} : start.substr(first);
  if (text.starts_with("<!DOCTYPE") || text.starts_with("<!doctype") || text.starts_with("<html") ||
      text.starts_with("<HTML") || text.starts_with("<?xml")) {
    return "an HTML page (most often a download that ended in an error or log-in page); download the file again";
  }
  if (start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02")) {
    return "a PyTorch pickle (.ckpt, .pt or .bin)";
  }
  if (start.starts_with("GGUF")) return "a GGUF file; ip2p reads safetensors";
  if (text.starts_with("{\"error\"")) return "the JSON error message of a server; download the file again";
  return {};
}

/// Checks one entry's dtype and shape and returns its size in bytes. \param name, file for messages
inline std::uint64_t checked_tensor_bytes(const SafetensorsJson::Entry& entry, SafetensorsInfo& info,
                                          const std::string& name, std::string_view file) {
  const auto known = std::find_if(safetensors_dtypes.begin(), safetensors_dtypes.end(),
                                  [&](const SafetensorsDtype& row) { return row.name == entry.dtype; });
  require(known != safetensors_dtypes.end(),
          "{}: tensor '{}' has the dtype '{}', which LibTorch lacks; expected a dtype such as F32, F16 or BF16", file,
          name, printable(entry.dtype));
  info.dtype = known->type;
  std::uint64_t elements = 1;
  std::uint64_t span = c10::elementSize(info.dtype);  // as if no size were 0, so that strides fit as well
  for (const std::uint64_t size : entry.shape) {
    const auto wider = checked_mul(span, std::max<std::uint64_t>(size, 1));
    require(wider && *wider <= static_cast<std::uint64_t>(INT64_MAX),
            "{}: the shape [{}] of tensor '{}' overflows 64-bit sizes", file, fmt::join(entry.shape, ", "), name);
    span = *wider;
    elements *= size;
    info.shape.push_back(static_cast<std::int64_t>(size));
  }
  return elements == 0 ? 0 : span;
}

/// Parses and validates the JSON part of a header.
///
/// \param json the n bytes after the length field  \param data_bytes length of the file minus 8 minus n
/// \param file name for messages
/// Throws `Error` for the first of: not UTF-8; not JSON of the right form; a duplicate name (beyond the reference); an
/// offset pair out of order; a hole or overlap between tensors; an unknown dtype; a rank over 64 or an overflowing
/// size (the reference lets an earlier 0 hide an overflow, this reader does not); a size that differs from the offsets;
/// and tensor bytes that end before or after the end of the file.
inline SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                                  std::string_view file) {
  const auto bad = first_invalid_utf8(json);
  require(!bad, "{}: the safetensors header is not UTF-8 (byte {})", file, bad.value_or(0));
  // The JSON library takes a NUL for the end of its input; no JSON text holds one.
  const auto nul = json.find('\0');
  require(nul == std::string_view::npos, "{}: the header is not valid JSON at byte {}: a NUL byte", file, nul);
  SafetensorsJson reader;
  const bool valid = nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  if (!valid) throw_error("{}: {}", file, reader.message);

  auto& entries = reader.entries;
  SafetensorsHeader header;
  header.metadata = std::move(reader.metadata);
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return std::tie(a.offsets, a.name) < std::tie(b.offsets, b.name); });
  std::uint64_t position = 0;
  for (const auto& entry : entries) {
    const std::string name = printable(entry.name);
    SafetensorsInfo info{.dtype = at::kFloat, .shape = {}, .begin = entry.offsets[0], .end = entry.offsets[1]};
    require(info.begin <= info.end, "{}: data_offsets of tensor '{}' run backwards: [{}, {}]", file, name, info.begin,
            info.end);
    require(!header.tensors.contains(entry.name), "{}: the tensor name '{}' is a duplicate", file, name);
    require(info.begin <= position, "{}: there is a hole of {} bytes before tensor '{}' at byte {}", file,
            info.begin - position, name, info.begin);
    require(info.begin == position, "{}: tensor '{}' at byte {} overlaps the tensor before it, which ends at {}", file,
            name, info.begin, position);
    const std::uint64_t bytes = checked_tensor_bytes(entry, info, name, file);
    require(bytes == info.end - info.begin,
            "{}: tensor '{}' of type {} and shape [{}] takes {} bytes, but its data_offsets span {}", file, name,
            entry.dtype, fmt::join(entry.shape, ", "), bytes, info.end - info.begin);
    position = info.end;
    header.tensors.emplace(entry.name, std::move(info));
  }
  require(position <= data_bytes, "{}: is truncated: its tensors take {} bytes, the file holds {}", file, position,
          data_bytes);
  require(position == data_bytes, "{}: {} trailing bytes follow the last tensor", file, data_bytes - position);
  return header;
}

}  // namespace detail
}  // namespace ip2p
