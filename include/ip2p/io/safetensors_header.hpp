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

/// Parses and validates the JSON part of a header.
///
/// \param json the n bytes after the length field  \param data_bytes length of the file minus 8 minus n
/// \param file name for messages
/// Throws `Error` for the first of: not UTF-8; not JSON of the right form; a duplicate name (beyond the reference); an
/// offset pair out of order; a hole or overlap between tensors; an unknown dtype; a rank over 64 or an overflowing
/// size (the reference lets an earlier 0 hide an overflow, this reader does not); a size that differs from the offsets;
/// and tensor bytes that end before or after the end of the file.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes, std::string_view file);

}  // namespace detail
}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include "ip2p/io/safetensors_header_definitions.hpp"
#endif
