#include "clip.hpp"

#include <filesystem>

#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"

namespace example {

ip2p::Clip open_clip(const std::filesystem::path& path, const std::filesystem::path& tokenizer, at::Device device) {
  return open_clip(ip2p::ModelFiles::open(path, {.tokenizer = tokenizer}), device);
}

ip2p::Clip open_clip(const ip2p::ModelFiles& files, at::Device device) {
  return ip2p::load<ip2p::Clip>(files, {.device = device});
}

}  // namespace example
