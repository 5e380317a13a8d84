#pragma once

/// \file
/// Mutates safetensors files so that more than their length field is reached.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "fuzz/harness.hpp"

namespace ip2p::testing::fuzz {

/// Changes the JSON of a header and keeps its length right; now and then anything.
inline std::size_t mutate_safetensors(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  std::uint64_t length = 0;
  if (size >= 8) std::memcpy(&length, data, 8);
  if (seed % 8 == 0 || size < 8 || length > size - 8) return LLVMFuzzerMutate(data, size, most);
  const std::string bytes(text_of(data, size));
  const auto json = mutated(bytes.substr(8, length), 64);
  const auto values = bytes.substr(8 + length);
  length = json.size();
  std::string whole(8, '\0');
  std::memcpy(whole.data(), &length, 8);
  return put_back(whole + json + values, data, size, most);
}

}  // namespace ip2p::testing::fuzz
