// Reads files as the library does, for differential.py, which compares with what others read.
//
// Each line of the input is the path of a file. The answer is a line of JSON: {"refused": MESSAGE}, or for a picture
// its size, with the pixels in PATH.rgb, and for safetensors each tensor's dtype, shape and sum (CRC-32), and the
// metadata.

#include <fstream>
#include <iostream>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "ip2p/io/crc32.hpp"
#include "ip2p/io/image_definitions.hpp"
#include "ip2p/io/safetensors.hpp"

namespace {

nlohmann::json read(const std::string& path) {
  if (!path.ends_with(".safetensors")) {
    auto options = ip2p::released_reading();
    options.max_pixels = options.max_file_pixels = 1 << 22;
    options.max_aspect = 1 << 22;  // a limit of ours, which others do not have
    const auto image = ip2p::read_picture(path, options).image;
    std::ofstream(path + ".rgb", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
    return {{"width", image.width}, {"height", image.height}};
  }
  const auto file = ip2p::SafetensorsFile::open(path);
  auto tensors = nlohmann::json::object();
  for (const auto& [name, info] : file.tensors()) {
    const auto tensor = file.tensor(name);
    const std::span bytes(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes());
    tensors[name] = {ip2p::detail::safetensors_dtype_name(info.dtype), info.shape, ip2p::detail::crc32(bytes)};
  }
  return {{"tensors", tensors}, {"metadata", file.metadata()}};
}

}  // namespace

int main() {
  for (std::string path; std::getline(std::cin, path);) {
    nlohmann::json answer;
    try {
      answer = read(path);
    } catch (const ip2p::Error& error) {
      answer = {{"refused", error.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
}
