#pragma once

/// \file
/// The tensors in a file that `torch.save` wrote: their names, types, shapes and places in the file, without LibTorch.

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/io/legacy_torch_file.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/torch_archive.hpp"

namespace ip2p::detail {

/// Whether a file that starts so is a zip archive. (A safetensors file has a '{' as its ninth byte.)
inline bool starts_as_zip(std::string_view start) {
  return start.starts_with("PK\x03\x04") && (start.size() < 9 || start[8] != '{');
}

/// Whether a file that starts so is a pickle of protocol 2 or later.
inline bool starts_as_pickle(std::string_view start) {
  return start.size() > 1 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5 &&
         (start.size() < 9 || start[8] != '{');
}

/// The tensors of a file that `torch.save` wrote, in either layout.
///
/// Those of a dictionary (or of the one under its key "state_dict", as Lightning's checkpoints have it) have its keys
/// as names; where dictionaries or modules lie within others, the keys are joined by dots. Whatever else the file holds
/// (callbacks, settings, objects of any class) is passed over.
///
/// Memory and time are bounded by the size of the file and the limits of pickle_machine.hpp and zip_archive.hpp.
/// \throws Error for whatever is damaged, for tensors that reach out of their storages, that are sparse or quantised,
///   and for duplicate names
inline PickledTensors read_pickled_tensors(const OpenedFile& file) {
  const auto start = read_bytes(file, 0, std::min<std::uint64_t>(file.size(), 64));
  if (starts_as_zip(start)) return read_torch_archive(file);
  require(starts_as_pickle(start), "{}: is not a file that torch.save wrote", file.name());
  return read_legacy_torch_file(file);
}

}  // namespace ip2p::detail
