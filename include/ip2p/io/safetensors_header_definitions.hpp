#pragma once

/// \file
/// The definitions behind safetensors_header.hpp.

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/safetensors_json.hpp"
#include "ip2p/io/utf8.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p::detail {

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

IP2P_INLINE SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
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

}  // namespace ip2p::detail
#endif
