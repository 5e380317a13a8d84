#pragma once

/// \file
/// The layout of `torch.save` before version 1.6: pickles, and the storages behind them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/pickle.hpp"
#include "ip2p/io/pickle_machine.hpp"
#include "ip2p/io/pickled_tensor.hpp"
#include "ip2p/io/pickled_tensor_finder.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/zip_archive.hpp"

namespace ip2p::detail {

/// Sequence of bytes at the start of what `torch.save` wrote before version 1.6: its magic number, lowest byte first.
inline constexpr std::string_view legacy_torch_magic = "\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19";

/// Tensors whose storages follow the pickles of a file one after the other.
class LegacyTensorFinder : public PickledTensorFinder {
 public:
  using PickledTensorFinder::PickledTensorFinder;

  /// Lays out the storages from byte `position` of `file` on. \param keys a list of their names, in their order
  void lay_out(const OpenedFile& file, const Pickle& keys, std::uint64_t position) {
    std::map<std::string, Mention, std::less<>> mentions;
    for (std::size_t i = 0; i < pickle_.values().size(); ++i) {
      auto found = mention(static_cast<PickleRef>(i));
      if (!found) continue;
      const auto [known, added] = mentions.try_emplace(found->key, *found);
      require(added || (known->second.values == found->values && known->second.type->bytes == found->type->bytes),
              "{}: is damaged: the storage '{}' is said to have {} values and {} values", file_, printable(found->key),
              known->second.values, found->values);
    }
    const auto& list = keys[keys.root()];
    require(list.kind == PickleKind::list, "{}: is damaged: expected a list of storages after its pickle", file_);
    for (const auto item : list.items) {
      const auto& key = keys[item];
      const auto found = key.kind == PickleKind::text      ? mentions.find(key.text)
                         : key.kind == PickleKind::integer ? mentions.find(std::to_string(key.integer))
                                                           : mentions.end();
      require(found != mentions.end(), "{}: is damaged: it lists a storage that its pickle does not have", file_);
      require(lies_within(position, 8, file.size()), "{}: is truncated: the storage '{}' is missing", file_,
              printable(found->first));
      const auto stated = little_endian<std::uint64_t>(read_bytes(file, position, 8), 0);
      const std::uint64_t bytes = found->second.values * found->second.type->bytes;
      require(stated == found->second.values, "{}: is damaged: the storage '{}' has {} values, its pickle says {}",
              file_, printable(found->first), stated, found->second.values);
      position += 8;
      require(lies_within(position, bytes, file.size()),
              "{}: is truncated: the storage '{}' takes {} bytes from byte {} on, the file has {}", file_,
              printable(found->first), bytes, position, file.size());
      const bool added = places_.emplace(found->first, ZipEntry{position, bytes, 0}).second;
      require(added, "{}: is damaged: it lists the storage '{}' twice", file_, printable(found->first));
      position += bytes;
    }
  }

 protected:
  PickledStorage place(const Mention& found) override {
    const auto known = places_.find(found.key);
    require(known != places_.end(), "{}: is incomplete: it lacks the storage '{}'", file_, printable(found.key));
    return {found.key, known->second, false};
  }

 private:
  std::map<std::string, ZipEntry, std::less<>> places_;
};

/// The pickles at the start of a file that `torch.save` wrote before version 1.6: magic number, version, system, what
/// was saved, and the storages' names.
inline std::vector<Pickle> legacy_torch_pickles(const OpenedFile& file) {
  constexpr std::uint64_t limit = max_pickle_bytes + (1 << 20);
  // How long they are is known only when they have been read.
  for (std::uint64_t window = 1 << 20;; window *= 4) {
    const auto length = std::min({window, file.size(), limit});
    const auto bytes = std::make_shared<const std::string>(read_bytes(file, 0, length));
    std::vector<Pickle> pickles;
    try {
      for (int i = 0; i < 5; ++i) {
        pickles.push_back(parse_pickle(bytes, pickles.empty() ? 0 : pickles.back().end(), file.name()));
        const auto& first = pickles.front()[pickles.front().root()];
        require(first.kind == PickleKind::long_integer && first.text == legacy_torch_magic,
                "{}: is a pickle that torch.save did not write: its magic number is missing", file.name());
      }
      return pickles;
    } catch (const PickleCutOff& error) {
      if (length == file.size()) throw Error(error.what());
      require(length < limit, "{}: its pickle has more than {} bytes, the most that are read", file.name(), limit);
    }
  }
}

/// Reads the layout of `torch.save` before version 1.6: five pickles, then for each storage its number of values in 64
/// bits and its bytes.
inline PickledTensors read_legacy_torch_file(const OpenedFile& file) {
  const auto pickles = legacy_torch_pickles(file);
  const auto& version = pickles[1][pickles[1].root()];
  require(version.kind == PickleKind::integer && version.integer == 1001,
          "{}: expected the version 1001 of PyTorch's old layout, found another", file.name());
  const auto order = pickles[2].find(pickles[2].root(), "little_endian");
  require(order != no_pickle_value && pickles[2][order].integer == 1,
          "{}: its numbers are stored highest byte first, which is not read", file.name());
  PickledTensors result;
  LegacyTensorFinder finder(pickles[3], file.name(), result);
  finder.lay_out(file, pickles[4], pickles[4].end());
  finder.find();
  return result;
}

}  // namespace ip2p::detail
