#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/crafted_pickle.hpp"
#include "io/crafted_safetensors.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::testing {

/// How `spill_pickle` lays out its file.
enum class PickleLayout { archive, legacy };

/// Writes tensors as torch.save does, under the key "state_dict" beside other things. Only dtypes with a class of
/// storages.
inline void spill_pickle(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                         PickleLayout layout = PickleLayout::archive) {
  using namespace pickled;
  const bool legacy = layout == PickleLayout::legacy;
  std::vector<std::pair<std::string, std::string>> entries;
  std::vector<ZipPart> parts;
  std::string keys = "](", storages;
  for (const auto& [name, given] : tensors) {
    const auto value = given.contiguous();
    const auto key = std::to_string(entries.size());
    std::string bytes(value.nbytes(), '\0');
    if (!bytes.empty()) std::memcpy(bytes.data(), value.data_ptr(), bytes.size());
    const auto stored =
        storage(std::string(at::toString(value.scalar_type())) + "Storage", key, value.numel(), legacy ? "N" : "");
    entries.emplace_back(name, pickled::tensor(stored, 0, value.sizes().vec(), value.strides().vec()));
    parts.push_back({"archive/data/" + key, bytes});
    keys += text(key);
    storages += raw<std::uint64_t>(static_cast<std::uint64_t>(value.numel())) + bytes;
  }
  const auto saved = dictionary({{"global_step", integer(22000)},
                                 {"callbacks", called(global("some.program", "Callback"), ")")},
                                 {"state_dict", ordered(entries)}});
  if (legacy) return spill(path, legacy_file(saved, keys + "e", storages));
  parts.insert(parts.begin(), {"archive/data.pkl", whole(saved)});
  spill(path, zip_of(parts));
}

}  // namespace ip2p::testing
