#pragma once

/// \file
/// The list of what a zip archive holds, for archives whose entries are stored as they are, as `torch.save` writes
/// them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/checked.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/opened_file.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// Where the bytes of one entry of an archive lie.
struct ZipEntry {
  std::uint64_t begin = 0;  ///< First byte, counted from the start of the file.
  std::uint64_t bytes = 0;  ///< Size.
  std::uint32_t crc = 0;    ///< CRC-32 of the bytes, as the archive states it.
};

/// Entries of an archive by their names, which are never used as paths.
using ZipEntries = std::map<std::string, ZipEntry, std::less<>>;

/// Longest list of entries that is read, in bytes; a model of 100,000 tensors has a tenth of it.
inline constexpr std::uint64_t max_zip_directory = std::uint64_t{64} << 20;

/// A little-endian number of type `Number` at `offset` of `bytes`, which must reach that far.
template <class Number>
Number little_endian(std::string_view bytes, std::size_t offset) {
  Number value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// `length` bytes of `file` from `offset` on.
inline std::string read_bytes(const OpenedFile& file, std::uint64_t offset, std::uint64_t length) {
  std::string bytes(static_cast<std::size_t>(length), '\0');
  file.read(std::as_writable_bytes(std::span(bytes)), offset);
  return bytes;
}

/// Throws `Error` unless `name` is a plain relative name: no root, no "..", no empty part, no backslash, no NUL.
inline void require_plain_zip_name(std::string_view name, std::string_view file) {
  bool plain = !name.empty() && name.find('\\') == std::string_view::npos && name.find('\0') == std::string_view::npos;
  for (std::size_t begin = 0; plain && begin < name.size();) {
    const auto end = std::min(name.find('/', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    plain = !part.empty() && part != "." && part != "..";
    begin = end + 1;
  }
  require(plain, "{}: refuses the archive's entry '{}': expected a relative name without '..'", file, printable(name));
}

/// Where the list of entries lies.
struct ZipDirectory {
  std::uint64_t begin = 0, bytes = 0, entries = 0;
};

/// Finds the list by the record at the end of the archive, or for large archives by the 64-bit record before that.
inline ZipDirectory zip_directory(const OpenedFile& file) {
  constexpr std::uint64_t end_bytes = 22, locator_bytes = 20, end64_bytes = 56;
  const std::uint64_t tail_bytes = std::min<std::uint64_t>(file.size(), end_bytes + 65535);
  const std::string tail = read_bytes(file, file.size() - tail_bytes, tail_bytes);
  std::optional<std::size_t> found;
  for (std::size_t i = tail.size() < end_bytes ? 0 : tail.size() - end_bytes + 1; i-- > 0 && !found;) {
    // The comment after the record must reach to the end of the file.
    if (tail.compare(i, 4, "PK\x05\x06") == 0 &&
        little_endian<std::uint16_t>(tail, i + 20) == tail.size() - i - end_bytes) {
      found = i;
    }
  }
  require(found.has_value(), "{}: is truncated or damaged: the list of the archive's entries is missing at its end",
          file.name());
  const std::string_view end = std::string_view(tail).substr(*found, end_bytes);
  const std::uint64_t end_begin = file.size() - tail_bytes + *found;
  require(little_endian<std::uint16_t>(end, 4) == 0 && little_endian<std::uint16_t>(end, 6) == 0 &&
              little_endian<std::uint16_t>(end, 8) == little_endian<std::uint16_t>(end, 10),
          "{}: is one part of an archive in several parts, which are not read", file.name());
  ZipDirectory result{.begin = little_endian<std::uint32_t>(end, 16),
                      .bytes = little_endian<std::uint32_t>(end, 12),
                      .entries = little_endian<std::uint16_t>(end, 10)};
  std::uint64_t limit = end_begin;  // of the list
  const auto locator =
      end_begin < locator_bytes ? std::string() : read_bytes(file, end_begin - locator_bytes, locator_bytes);
  if (locator.starts_with("PK\x06\x07")) {
    const auto place = little_endian<std::uint64_t>(locator, 8);
    require(lies_within(place, end64_bytes, end_begin - locator_bytes),
            "{}: is damaged: the archive's 64-bit record is said to lie at byte {}", file.name(), place);
    const auto record = read_bytes(file, place, end64_bytes);
    require(record.starts_with("PK\x06\x06"), "{}: is damaged: there is no 64-bit record at byte {} of the archive",
            file.name(), place);
    const ZipDirectory wide{.begin = little_endian<std::uint64_t>(record, 48),
                            .bytes = little_endian<std::uint64_t>(record, 40),
                            .entries = little_endian<std::uint64_t>(record, 32)};
    const bool agree = (result.begin == 0xFFFFFFFF || result.begin == wide.begin) &&
                       (result.bytes == 0xFFFFFFFF || result.bytes == wide.bytes) &&
                       (result.entries == 0xFFFF || result.entries == wide.entries);
    require(agree, "{}: is damaged: the archive's two records of its entries differ", file.name());
    result = wide;
    limit = place;
  }
  require(lies_within(result.begin, result.bytes, limit),
          "{}: is damaged: the list of the archive's entries is said to lie at [{}, {} + {}), of {} bytes before its "
          "record",
          file.name(), result.begin, result.begin, result.bytes, limit);
  require(result.bytes <= max_zip_directory && result.entries <= result.bytes / 46,
          "{}: is damaged: the list of the archive's entries is said to have {} entries in {} bytes, at most {} bytes "
          "are read",
          file.name(), result.entries, result.bytes, max_zip_directory);
  return result;
}

/// Replaces the numbers of an entry that are saturated by those of its 64-bit field. Returns whether all are known.
inline bool widen_zip_entry(std::string_view fields, std::uint64_t& plain, std::uint64_t& packed,
                            std::uint64_t& offset) {
  constexpr std::uint64_t saturated = 0xFFFFFFFF;
  if (plain != saturated && packed != saturated && offset != saturated) return true;
  while (fields.size() >= 4) {
    const auto kind = little_endian<std::uint16_t>(fields, 0);
    const std::size_t length = little_endian<std::uint16_t>(fields, 2);
    if (length > fields.size() - 4) return false;
    if (kind != 1) {
      fields.remove_prefix(4 + length);
      continue;
    }
    auto numbers = fields.substr(4, length);
    for (auto* number : {&plain, &packed, &offset}) {
      if (*number != saturated) continue;
      if (numbers.size() < 8) return false;
      *number = little_endian<std::uint64_t>(numbers, 0);
      numbers.remove_prefix(8);
    }
    return true;
  }
  return false;
}

/// Reads and validates the list of entries. Nothing is unpacked, ever.
///
/// Throws `Error` for the first of: no list at the end, or one that is damaged; a compressed or encrypted entry; a name
/// with a root, "..", an empty part, a backslash or a NUL; a duplicate name; bytes outside the file or in the list
/// itself; a local header that says something else than the list; and entries that overlap.
inline ZipEntries read_zip_entries(const OpenedFile& file) {
  constexpr std::size_t header = 46, local_header = 30;
  constexpr unsigned encrypted = 1, sizes_follow = 8;
  const auto where = zip_directory(file);
  const std::string list = read_bytes(file, where.begin, where.bytes);
  ZipEntries entries;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // of local headers with their bytes
  std::size_t position = 0;
  for (std::uint64_t i = 0; i < where.entries; ++i) {
    const std::string_view rest = std::string_view(list).substr(position);
    require(rest.size() >= header && rest.starts_with("PK\x01\x02"),
            "{}: is damaged: the archive's list ends at its entry {} of {}", file.name(), i, where.entries);
    const std::size_t name_bytes = little_endian<std::uint16_t>(rest, 28);
    const std::size_t field_bytes = little_endian<std::uint16_t>(rest, 30);
    const std::size_t whole = header + name_bytes + field_bytes + little_endian<std::uint16_t>(rest, 32);
    require(whole <= rest.size(), "{}: is damaged: the archive's list ends inside its entry {} of {}", file.name(), i,
            where.entries);
    position += whole;
    const std::string name(rest.substr(header, name_bytes));
    const auto shown = printable(name);
    require_plain_zip_name(name, file.name());
    std::uint64_t plain = little_endian<std::uint32_t>(rest, 24);
    std::uint64_t packed = little_endian<std::uint32_t>(rest, 20);
    std::uint64_t offset = little_endian<std::uint32_t>(rest, 42);
    require(widen_zip_entry(rest.substr(header + name_bytes, field_bytes), plain, packed, offset),
            "{}: is damaged: the archive's entry '{}' lacks its 64-bit sizes", file.name(), shown);
    const auto method = little_endian<std::uint16_t>(rest, 10);
    require((little_endian<std::uint16_t>(rest, 8) & encrypted) == 0 && method == 0,
            "{}: the archive's entry '{}' is {}, expected it stored as it is, as torch.save writes it", file.name(),
            shown, method != 0 ? "compressed" : "encrypted");
    require(plain == packed, "{}: is damaged: the archive's entry '{}' is said to have {} and {} bytes", file.name(),
            shown, plain, packed);
    require(lies_within(offset, local_header + name_bytes, where.begin),
            "{}: is damaged: the archive's entry '{}' is said to lie at byte {} of {}", file.name(), shown, offset,
            where.begin);
    const auto local = read_bytes(file, offset, local_header + name_bytes);
    require(local.starts_with("PK\x03\x04") && little_endian<std::uint16_t>(local, 26) == name_bytes &&
                std::string_view(local).substr(local_header) == name && little_endian<std::uint16_t>(local, 8) == 0,
            "{}: is damaged: at byte {} of the archive there is another entry than '{}'", file.name(), offset, shown);
    const auto sizes_in = [&](std::size_t place) { return little_endian<std::uint32_t>(local, place); };
    const auto agrees = [&](std::size_t place) { return sizes_in(place) == plain || sizes_in(place) == 0xFFFFFFFF; };
    require((little_endian<std::uint16_t>(local, 6) & sizes_follow) != 0 || (agrees(18) && agrees(22)),
            "{}: is damaged: the archive's entry '{}' is said to have {} and {} bytes", file.name(), shown, plain,
            sizes_in(18));
    const std::uint64_t begin = offset + local_header + name_bytes + little_endian<std::uint16_t>(local, 28);
    require(lies_within(begin, plain, where.begin),
            "{}: is damaged: the {} bytes of the archive's entry '{}' reach into the list of entries", file.name(),
            plain, shown);
    ranges.emplace_back(offset, begin + plain);
    const bool added = entries.emplace(name, ZipEntry{begin, plain, little_endian<std::uint32_t>(rest, 16)}).second;
    require(added, "{}: the archive's entry '{}' is a duplicate", file.name(), shown);
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    require(ranges[i].first >= ranges[i - 1].second, "{}: entries of the archive overlap at byte {}", file.name(),
            ranges[i].first);
  }
  return entries;
}

/// Throws `Error` unless the CRC-32 of an entry's bytes is the one that the archive states.
inline void require_equal_sums(std::uint32_t found, std::uint32_t stated, std::string_view name,
                               std::string_view file) {
  require(
      found == stated,
      "{}: is damaged: the bytes of the archive's entry '{}' have the CRC-32 {:08x}, but {:08x} was written; copy or "
      "download the file again",
      file, printable(name), found, stated);
}

/// Reads an entry and throws `Error` if its bytes do not have the CRC-32 that the archive states. \param name for the
/// message
inline void require_zip_sum(const OpenedFile& file, const ZipEntry& entry, std::string_view name) {
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min<std::uint64_t>(entry.bytes, 1 << 20)));
  std::uint32_t sum = 0;
  for (std::uint64_t done = 0; done < entry.bytes; done += piece.size()) {
    piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), entry.bytes - done)));
    file.read(piece, entry.begin + done);
    sum = crc32(piece, sum);
  }
  require_equal_sums(sum, entry.crc, name, file.name());
}

}  // namespace ip2p::detail
