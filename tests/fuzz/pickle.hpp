#pragma once

/// \file
/// What has to hold for each pickle and archive of tensors, whatever its bytes.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "fuzz/harness.hpp"
#include "ip2p/io/pickle_tensors.hpp"

namespace ip2p::testing::fuzz {

/// Reads the bytes as a file. Returns the message of the error, or nothing where it was read; then all must lie within
/// the file.
inline std::string pickle_outcome(std::string_view bytes) {
  const MemoryFile file(bytes);
  try {
    const ip2p::detail::OpenedFile opened(file.path());
    const auto found = ip2p::detail::read_pickled_tensors(opened);
    for (const auto& [name, tensor] : found.tensors) {
      expect(tensor.storage < found.storages.size(), "a tensor without a storage");
      const auto& place = found.storages[tensor.storage].place;
      expect(place.begin <= bytes.size() && place.bytes <= bytes.size() - place.begin, "a storage outside the file");
      expect(tensor.begin >= place.begin && tensor.begin <= place.begin + place.bytes &&
                 tensor.span <= place.begin + place.bytes - tensor.begin,
             "a tensor outside its storage");
      std::uint64_t last = 0, elements = 1;
      for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        expect(tensor.shape[i] >= 0 && tensor.strides[i] >= 0, "a negative size");
        elements *= static_cast<std::uint64_t>(tensor.shape[i]);
        last += static_cast<std::uint64_t>((tensor.shape[i] - 1) * tensor.strides[i]);
      }
      expect(tensor.span == (elements == 0 ? 0 : (last + 1) * tensor.element_bytes), "a tensor of another span");
      expect(tensor.span % tensor.element_bytes == 0, "a part of an element");
    }
    return {};
  } catch (const ip2p::Error& error) {
    const std::string message = error.what();
    expect(!message.empty(), "an error without a message");
    return message;
  }
}

/// Puts the right sum of the pickle into an archive, so that what was damaged in it is reached.
inline void mend_sum(std::string& bytes) {
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

}  // namespace ip2p::testing::fuzz
