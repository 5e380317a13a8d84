// A folder of checkpoints is refused with an Error, or the newest that verifies is read, its counters are read or
// refused, and saved as a later one it reads the same. The mutator puts the right sizes and sums into manifests.
//
// The input is the manifest of a checkpoint and its tensors, separated as fuzz/harness.hpp says.

#include <string>

#include "fuzz/harness.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/run_counters.hpp"

namespace fuzz = ip2p::testing::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::ScratchFolder scratch;
  const auto [manifest, tensors] = fuzz::files_of<2>(fuzz::text_of(data, size));
  scratch.clear();
  scratch.put("step_7/manifest.json", manifest);
  scratch.put("step_7/tensors.safetensors", tensors);
  const ip2p::CheckpointFolder folder(scratch.path());
  std::optional<ip2p::Checkpoint> found;
  if (!fuzz::reads([&] { found = folder.load_newest(); })) return 0;
  fuzz::expect(found.has_value(), "a checkpoint that is there is not found");
  fuzz::reads([&] {
    const auto counters = ip2p::RunCounters::of(*found);
    static_cast<void>(counters.state());
  });
  found->step = 8;
  fuzz::must_read("a checkpoint that was read cannot be saved", [&] {
    folder.save(*found);
    const auto again = folder.load_newest();
    fuzz::expect(again && again->step == 8 && again->state == found->state, "saved, a checkpoint differs");
    fuzz::expect(again->tensors.size() == found->tensors.size(), "saved, tensors are lost");
    for (const auto& [name, tensor] : found->tensors) {
      const auto& other = again->tensors.at(name);
      fuzz::expect(other.nbytes() == tensor.nbytes() &&
                       (tensor.nbytes() == 0 ||
                        std::memcmp(other.const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()) == 0),
                   "saved, a tensor differs");
    }
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  static const fuzz::ScratchFolder scratch;
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 == 0) return size;
  const auto [manifest, tensors] = fuzz::files_of<2>(fuzz::text_of(data, size));
  auto json = nlohmann::json::parse(manifest, nullptr, false);
  if (!json.is_object()) return size;
  if (json.contains("files") && json["files"].is_object() && json["files"].contains("tensors.safetensors")) {
    json["files"]["tensors.safetensors"] = {{"bytes", tensors.size()},
                                            {"checksum", ip2p::detail::file_checksum(scratch.put("tensors", tensors))}};
  }
  json.erase("checksum");
  json["checksum"] = ip2p::detail::text_checksum(json.dump());
  return fuzz::put_back(json.dump() + std::string(fuzz::separator) + std::string(tensors), data, size, most);
}
