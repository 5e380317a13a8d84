#pragma once

/// \file
/// The layout of `torch.save` since version 1.6: a zip archive of a pickle and of storages.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickle.hpp"
#include "ip2p/io/pickle_machine.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/pickled_tensor_finder.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/zip_archive.hpp"

namespace ip2p::detail {

/// Tensors whose storages are the entries of an archive.
class ArchivedTensorFinder : public PickledTensorFinder {
 public:
  ArchivedTensorFinder(const Pickle& pickle, std::string_view file, PickledTensors& result, const ZipEntries& entries,
                       std::string folder, bool summed)
      : PickledTensorFinder(pickle, file, result), entries_(entries), folder_(std::move(folder)), summed_(summed) {}

 protected:
  PickledStorage place(const Mention& found) override {
    const auto name = folder_ + "data/" + found.key;
    const auto entry = entries_.find(name);
    require(entry != entries_.end(), "{}: is incomplete: the archive lacks the entry '{}'", file_, printable(name));
    require(entry->second.bytes == found.values * found.type->bytes,
            "{}: is damaged: the archive's entry '{}' has {} bytes, expected {} values of {} bytes", file_,
            printable(name), entry->second.bytes, found.values, found.type->bytes);
    return {name, entry->second, summed_};
  }

 private:
  const ZipEntries& entries_;
  std::string folder_;
  bool summed_;
};

/// Reads the archive that `torch.save` writes since version 1.6.
inline PickledTensors read_torch_archive(const OpenedFile& file) {
  const auto entries = read_zip_entries(file);
  // Whoever switches sums off, torch.serialization.set_crc32_options(False), gets an archive whose sums are all 0.
  const bool summed =
      std::any_of(entries.begin(), entries.end(), [](const auto& item) { return item.second.crc != 0; });
  const ZipEntry* pickled = nullptr;
  std::string folder;
  for (const auto& [name, entry] : entries) {
    const auto slash = name.find('/');
    if (slash == std::string::npos || std::string_view(name).substr(slash) != "/data.pkl") continue;
    require(pickled == nullptr, "{}: holds two pickles, '{}data.pkl' and '{}', expected one", file.name(),
            printable(folder), printable(name));
    pickled = &entry;
    folder = name.substr(0, slash + 1);
  }
  require(pickled != nullptr,
          "{}: is a zip archive without the entry 'data.pkl', expected a file that torch.save wrote", file.name());
  const bool script = entries.contains(folder + "constants.pkl");
  require(!script, "{}: is a TorchScript program, expected weights; save its state_dict() with torch.save",
          file.name());
  require(pickled->bytes <= max_pickle_bytes, "{}: its pickle has {} bytes, at most {} are read", file.name(),
          pickled->bytes, max_pickle_bytes);
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end()) {
    const auto written = read_bytes(file, order->second.begin, std::min<std::uint64_t>(order->second.bytes, 16));
    require(written == "little", "{}: its numbers are stored highest byte first ('{}'), which is not read", file.name(),
            printable(written));
  }
  if (summed) require_zip_sum(file, *pickled, folder + "data.pkl");
  const auto bytes = std::make_shared<const std::string>(read_bytes(file, pickled->begin, pickled->bytes));
  Pickle pickle = [&] {
    try {
      return parse_pickle(bytes, 0, file.name());
    } catch (const PickleCutOff& error) {
      throw Error(error.what());
    }
  }();
  PickledTensors result;
  ArchivedTensorFinder(pickle, file.name(), result, entries, folder, summed).find();
  return result;
}

}  // namespace ip2p::detail
