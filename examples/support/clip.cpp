#include "clip.hpp"

#include <filesystem>

#include "hub.hpp"
#include "ip2p/io/hub_files.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"

namespace example {

ip2p::ModelFiles clip_files(const std::filesystem::path& path, const std::filesystem::path& tokenizer) {
  ip2p::HubFilesOptions wanted;
  if (!tokenizer.empty()) wanted.components = {"text_encoder"};
  return ip2p::ModelFiles::open(located(path, wanted), {.tokenizer = located_tokenizer(tokenizer)});
}

ip2p::Clip open_clip(const std::filesystem::path& path, const std::filesystem::path& tokenizer, at::Device device) {
  return open_clip(clip_files(path, tokenizer), device);
}

ip2p::Clip open_clip(const ip2p::ModelFiles& files, at::Device device) {
  return ip2p::load<ip2p::Clip>(files, {.device = device});
}

}  // namespace example
