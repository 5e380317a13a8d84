#pragma once

/// \file
/// Weight files of any format, which is recognised by content rather than by name.

#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/pickle_file.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// The tensors of a file, none of which have been read yet.
struct WeightFile {
  Weights weights;                              ///< By their names in the file.
  std::map<std::string, std::string> metadata;  ///< The `__metadata__` of safetensors; a pickle has none.
};

/// All tensors of `file` under their names in the file. No data is read yet.
inline Weights weights_of(const PickleFile& file) {
  Weights weights;
  for (const auto& name : file.names()) {
    weights.emplace(name, WeightEntry{file.shape(name), file.dtype(name), [file, name] { return file.tensor(name); }});
  }
  return weights;
}

/// Opens a safetensors file or a pickle of PyTorch. \throws Error as `SafetensorsFile::open` and `PickleFile::open`,
/// and for a pickle that holds no tensors
inline WeightFile open_weight_file(const std::filesystem::path& path, const SafetensorsOptions& options = {}) {
  if (!PickleFile::recognises(path)) {
    const auto file = SafetensorsFile::open(path, options);
    return {weights_of(file), file.metadata()};
  }
  const auto file = PickleFile::open(path, options);
  auto weights = weights_of(file);
  require(
      !weights.empty(),
      "{}: is a pickle without tensors: expected a dictionary of them, as torch.save(model.state_dict()) writes it, "
      "found {}",
      path.string(), file.root());
  return {std::move(weights), {}};
}

}  // namespace ip2p
