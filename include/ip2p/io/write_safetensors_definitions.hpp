#pragma once

/// \file
/// The definitions behind write_safetensors.hpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/safetensors_header.hpp"
#include "ip2p/io/utf8.hpp"
#include "ip2p/io/write_safetensors.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p::detail {

IP2P_INLINE void write_safetensors_items(const std::filesystem::path& path, const std::vector<SafetensorsItem>& items,
                                         const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::size_t, const SafetensorsItem*>> order;
  for (const auto& item : items) {
    require(item.name != "__metadata__" && !first_invalid_utf8(item.name),
            "cannot write '{}': '{}' cannot be the name of a tensor", path.string(), printable(item.name));
    const auto rank = safetensors_rank(item.dtype);
    require(rank.has_value(), "cannot write '{}': safetensors has no dtype for tensor '{}' of type {}", path.string(),
            item.name, c10::toString(item.dtype));
    order.emplace_back(*rank, &item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });

  const auto quoted = [&](const std::string& text) {
    require(!first_invalid_utf8(text), "cannot write '{}': its metadata is not UTF-8", path.string());
    return nlohmann::json(text).dump();
  };
  std::string header = "{";
  if (!metadata.empty()) {
    std::string_view separator;
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      header += fmt::format("{}{}:{}", std::exchange(separator, ","), quoted(key), quoted(value));
    }
    header += "}";
  }
  std::uint64_t position = 0;
  for (const auto& [rank, item] : order) {
    auto end = static_cast<std::uint64_t>(c10::elementSize(item->dtype));
    for (const auto size : item->shape) end *= static_cast<std::uint64_t>(size);
    end += position;
    header +=
        fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", header.size() > 1 ? "," : "",
                    quoted(item->name), safetensors_dtypes[rank].name, fmt::join(item->shape, ","), position, end);
    position = end;
  }
  header += "}";
  header.resize(static_cast<std::size_t>(*checked_round_up(header.size(), 8)), ' ');
  require(header.size() <= max_safetensors_header,
          "cannot write '{}': the header takes {} bytes, at most {} are allowed", path.string(), header.size(),
          max_safetensors_header);

  AtomicFile file(path);
  const std::uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(header)));
  for (const auto& [rank, item] : order) {
    const at::Tensor dense = item->read().detach().cpu().contiguous();  // one at a time, so memory stays flat
    require(dense.sizes() == at::IntArrayRef(item->shape) && dense.scalar_type() == item->dtype,
            "cannot write '{}': tensor '{}': expected {} {}, found {} {}", path.string(), item->name,
            c10::toString(item->dtype), shape_text(item->shape), c10::toString(dense.scalar_type()),
            shape_text(dense.sizes()));
    file.write({static_cast<const std::byte*>(dense.const_data_ptr()), static_cast<std::size_t>(dense.nbytes())});
  }
  file.commit();
}

}  // namespace ip2p::detail
#endif
