#pragma once

#include <string>
#include <vector>

#include "ip2p/io/image.hpp"
#include "ip2p/io/safetensors.hpp"
#include "support/reference.hpp"

namespace ip2p::testing {

/// Values of transformers and open_clip for the folder vision/fixtures/tiny-clip.
inline SafetensorsFile golden_clip() {
  return SafetensorsFile::open(fixture("vision/fixtures/clip-expected.safetensors"));
}

/// The three pictures (wide, tall and nearly square) to which those values belong.
inline std::vector<Image> golden_pictures() {
  const auto file = golden_clip();
  std::vector<Image> all;
  for (int i = 0; i < 3; ++i) all.push_back(from_tensor(file.tensor("picture_" + std::to_string(i))));
  return all;
}

}  // namespace ip2p::testing
