#pragma once

// Files as torch.save writes them, and hostile ones, put together byte by byte. Without LibTorch.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/io/crc32.hpp"

namespace ip2p::testing::pickled {

/// The bytes of a number, lowest first.
template <class Number>
std::string raw(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

inline std::string repeated(std::string_view piece, std::size_t times) {
  std::string result;
  result.reserve(piece.size() * times);
  for (std::size_t i = 0; i < times; ++i) result += piece;
  return result;
}

// --- pickles: each function returns the operations that leave one value on the stack ---

inline std::string text(std::string_view value) {
  return "X" + raw(static_cast<std::uint32_t>(value.size())) + std::string(value);
}
inline std::string integer(std::int64_t value) { return std::string("\x8a\x08", 2) + raw(value); }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<std::string>& parts) {
  std::string result = "(";
  for (const auto& part : parts) result += part;
  return result + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> parts;
  for (const auto value : values) parts.push_back(integer(value));
  return tuple(parts);
}
inline std::string called(const std::string& callable, const std::string& arguments) {
  return callable + arguments + "R";
}
inline std::string dictionary(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string result = "}(";
  for (const auto& [key, value] : entries) result += text(key) + value;
  return result + "u";
}
inline std::string ordered(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string result = called(global("collections", "OrderedDict"), ")") + "(";
  for (const auto& [key, value] : entries) result += text(key) + value;
  return result + "u";
}
/// \param view what the old layout adds: none, or the part of the storage that is meant
inline std::string storage(const std::string& type, const std::string& key, std::int64_t values,
                           const std::string& view = {}) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(values), view}) + "Q";
}
inline std::string tensor(const std::string& stored, std::int64_t first, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& strides) {
  return called(global("torch._utils", "_rebuild_tensor_v2"),
                tuple({stored, integer(first), integers(shape), integers(strides), "\x89",
                       called(global("collections", "OrderedDict"), ")")}));
}
/// Four numbers in fp32: the storage '0' of the files below.
inline std::string four(const std::string& view = {}) {
  return tensor(storage("FloatStorage", "0", 4, view), 0, {2, 2}, {2, 1});
}
inline std::string whole(const std::string& value) { return "\x80\x02" + value + "."; }

// --- zip archives ---

struct ZipPart {
  std::string name, bytes;
  std::uint16_t flags = 0x0808, method = 0;
  std::uint32_t crc_change = 0;  ///< what is XORed to the sum
};

/// An archive in which every entry's bytes begin at a multiple of 64.
/// \param wide whether sizes and places are written in 64 bits
inline std::string zip_of(const std::vector<ZipPart>& parts, bool wide = false) {
  std::string file, list;
  for (const auto& part : parts) {
    const auto begin = file.size();
    const auto size = static_cast<std::uint32_t>(part.bytes.size());
    const auto crc = detail::crc32(std::as_bytes(std::span(part.bytes))) ^ part.crc_change;
    const std::string padding((64 - (begin + 30 + part.name.size()) % 64) % 64, 'Z');
    file += "PK\x03\x04" + raw<std::uint16_t>(0) + raw(part.flags) + raw(part.method) + raw<std::uint32_t>(0);
    file += repeated(std::string(4, '\0'), 3) + raw(static_cast<std::uint16_t>(part.name.size()));
    file += raw(static_cast<std::uint16_t>(padding.size())) + part.name + padding + part.bytes;
    std::string field;
    if (wide) {
      field = raw<std::uint16_t>(1) + raw<std::uint16_t>(24) + raw<std::uint64_t>(size) + raw<std::uint64_t>(size) +
              raw<std::uint64_t>(begin);
    }
    list +=
        "PK\x01\x02" + raw<std::uint32_t>(0) + raw(part.flags) + raw(part.method) + raw<std::uint32_t>(0) + raw(crc);
    list += raw(wide ? 0xFFFFFFFFU : size) + raw(wide ? 0xFFFFFFFFU : size);
    list += raw(static_cast<std::uint16_t>(part.name.size())) + raw(static_cast<std::uint16_t>(field.size()));
    list += raw<std::uint16_t>(0) + raw<std::uint16_t>(0) + raw<std::uint16_t>(0) + raw<std::uint32_t>(0);
    list += raw(wide ? 0xFFFFFFFFU : static_cast<std::uint32_t>(begin)) + part.name + field;
  }
  const auto count = static_cast<std::uint16_t>(parts.size());
  const auto begin = file.size(), size = list.size();
  file += list;
  if (wide) {
    const auto place = file.size();
    file += "PK\x06\x06" + raw<std::uint64_t>(44) + raw<std::uint32_t>(0) + raw<std::uint64_t>(0) +
            raw<std::uint64_t>(count) + raw<std::uint64_t>(count) + raw<std::uint64_t>(size) +
            raw<std::uint64_t>(begin);
    file += "PK\x06\x07" + raw<std::uint32_t>(0) + raw<std::uint64_t>(place) + raw<std::uint32_t>(1);
  }
  file += "PK\x05\x06" + raw<std::uint32_t>(0) + raw(count) + raw(count);
  file += raw(static_cast<std::uint32_t>(size)) + raw(wide ? 0xFFFFFFFFU : static_cast<std::uint32_t>(begin));
  return file + raw<std::uint16_t>(0);
}

/// 1, 2, 3, 4 in fp32.
inline std::string four_numbers() { return raw(1.0F) + raw(2.0F) + raw(3.0F) + raw(4.0F); }

/// The layout of torch.save since version 1.6, with the storage '0'. \param value operations of what is saved
inline std::vector<ZipPart> archive_parts(const std::string& value) {
  return {{"archive/data.pkl", whole(value)}, {"archive/byteorder", "little"}, {"archive/data/0", four_numbers()}};
}
inline std::string archive(const std::string& value) { return zip_of(archive_parts(value)); }

/// The layout of torch.save before version 1.6. \param keys operations of the list of storages
inline std::string legacy_file(const std::string& value, const std::string& keys, const std::string& storages,
                               std::int64_t version = 1001, const std::string& little_endian = "\x88",
                               std::string_view magic = "\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19") {
  return "\x80\x02\x8a\x0a" + std::string(magic) + "." + whole(integer(version)) +
         whole(dictionary({{"protocol_version", integer(version)}, {"little_endian", little_endian}})) + whole(value) +
         whole(keys) + storages;
}
inline std::string four_legacy() { return raw<std::uint64_t>(4) + four_numbers(); }

/// A file that must be refused, or must not harm.
struct HostileFile {
  std::string name, bytes;
  std::string message;  ///< of the error; empty if the file is read
};

/// One of each kind of harm that a pickle or an archive can do.
inline std::vector<HostileFile> hostile_files() {
  std::vector<HostileFile> files;
  const auto value = [&](const std::string& name, const std::string& operations, const std::string& message) {
    files.push_back({name, archive(operations), message});
  };
  const auto saved = [&](const std::string& name, const std::string& operations, const std::string& message) {
    value(name, dictionary({{"x", operations}}), message);
  };
  const auto parts = [&](const std::string& name, std::vector<ZipPart> list, const std::string& message) {
    files.push_back({name, zip_of(list), message});
  };
  const std::size_t many = (std::size_t{1} << 22) + 100;

  // Programs in the pickle.
  saved("runs a command", called(global("posix", "system"), tuple({text("touch ip2p-was-here")})) + "0" + four(), "");
  saved("runs a command by a class",
        global("subprocess", "Popen") + tuple({text("touch ip2p-was-here")}) + "\x81}b0" + four(), "");
  saved("imports by stack", text("os") + text("system") + "\x93" + tuple({text("touch ip2p-was-here")}) + "R0" + four(),
        "");
  value("calls what is called",
        called(called(global("builtins", "getattr"), ")"), ")") + "0" + dictionary({{"x", four()}}), "");
  value("old instances",
        "(" + text("touch ip2p-was-here") + "ios\nsystem\n0(" + global("os", "system") + text("x") + "o0" +
            dictionary({{"x", four()}}),
        "");

  // Depth, sharing and cycles.
  value("lists in lists", repeated("]", 1'000'000) + repeated("a", 999'999), "");
  value("dictionaries in dictionaries", repeated("}" + text("a"), 100'000) + "N" + repeated("s", 100'000), "");
  value("a dictionary in itself", "}q\x05" + text("a") + "h\x05s" + text("x") + four() + "s", "");
  std::string laughs = "}(" + text("x") + four() + "u" + "r" + raw<std::uint32_t>(0);
  for (std::uint32_t level = 1; level < 39; ++level) {
    laughs += "0}(";
    for (const char* key : {"a", "b", "c", "d"}) laughs += text(key) + "j" + raw(level - 1);
    laughs += "ur" + raw(level);
  }
  value("a billion laughs", laughs, "the most that are read");
  std::string parameters = four();
  for (int i = 0; i < 1000; ++i) {
    parameters = called(global("torch._utils", "_rebuild_parameter"), tuple({parameters, "\x88", ")"}));
  }
  saved("parameters of parameters", parameters, "");

  // Sizes.
  value("values", repeated("N", many), "holds more than 4194304 values");
  value("stack", "N" + repeated("2", many), "puts more than 4194304 values on the stack");
  value("marks", repeated("(", many), "puts more than 4194304 marks on the stack");
  value("operations", "N" + repeated("20", (std::size_t{1} << 23) + 10), "has more than 16777216 operations");
  value("memo", "N" + repeated("\x94", many), "remembers a value under the number 4194304");
  value("memo number", "Nr" + raw<std::uint32_t>(0xFFFFFFFF), "remembers a value under the number 4294967295");
  value("text length", "X" + raw<std::uint32_t>(0xFFFFFFFF), "claims a value of 4294967295 bytes");
  value("bytes length", "\x8e" + raw<std::uint64_t>(std::uint64_t{1} << 63),
        "claims a value of 9223372036854775808 bytes");
  value("number length", "\x8b" + raw<std::uint32_t>(0xFFFFFFFF), "claims a value of 4294967295 bytes");
  value("frame length", "\x95" + raw<std::uint64_t>(~std::uint64_t{0}) + dictionary({{"x", four()}}), "");
  value("long number",
        "\x8b" + raw<std::uint32_t>(1'000'000) + std::string(1'000'000, 'x') + "0" + dictionary({{"x", four()}}), "");

  // Operations that do not fit.
  value("empty", "", "lacks a value on the stack");
  value("no mark", "t", "lacks a mark on the stack");
  value("below the mark", "N(a", "lacks a value on the stack");
  value("left over", "NN", "an end with values left on the stack");
  value("not remembered", "h\x09", "the recall of the value 9, which was not remembered");
  value("key alone", "}(Nu", "a key without a value");
  value("items for a text", text("x") + "Na", "items for what is no list");
  value("entries for a list", "]NNs", "entries for what is no dictionary");
  value("state for a list", "]}b", "a state for what is no object");
  value("unknown operation", "\xF0", "the unknown operation 0xf0");
  value("outside buffer", "\x97", "the unknown operation 0x97");
  value("protocol", "\x80\x09N", "has the protocol 9");
  value("number", "Itwelve\n", "not followed by the number that it needs");

  // Tensors.
  const auto strided = [&](const std::string& name, std::int64_t first, const std::vector<std::int64_t>& shape,
                           const std::vector<std::int64_t>& strides, const std::string& message) {
    saved(name, tensor(storage("FloatStorage", "0", 4), first, shape, strides), message);
  };
  constexpr auto far = std::int64_t{1} << 62;
  strided("offset", 4, {1}, {1}, "reaches out of its storage of 4 elements");
  strided("offset of none", 5, {0}, {1}, "reaches out of its storage");
  strided("size", 1, {4}, {1}, "reaches out of its storage");
  strided("stride", 0, {2, 2}, {4, 1}, "reaches out of its storage");
  strided("negative size", 0, {-1}, {1}, "expected the sizes and strides of a tensor as a whole number of 0 or more");
  strided("negative offset", -1, {1}, {1}, "expected the first element of a tensor as a whole number");
  strided("negative stride", 3, {2}, {-1}, "expected the sizes and strides of a tensor");
  strided("size overflow", 0, {far, far}, {0, 0}, "reaches out of its storage");
  strided("size overflow behind none", 0, {0, far, far}, {0, 0, 0}, "reaches out of its storage");
  strided("stride overflow", 0, {3}, {INT64_MAX}, "reaches out of its storage");
  strided("offset overflow", INT64_MAX, {2}, {INT64_MAX}, "reaches out of its storage");
  strided("repeats", 0, {std::int64_t{1} << 40}, {0}, "repeats the 4 elements of its storage");
  strided("strides missing", 0, {2, 2}, {1}, "has 2 sizes and 1 strides");
  strided("axes", 0, std::vector<std::int64_t>(65, 1), std::vector<std::int64_t>(65, 1),
          "has no list of at most 64 sizes");
  saved("arguments missing", called(global("torch._utils", "_rebuild_tensor_v2"), ")"),
        "lacks its storage, sizes or strides");
  saved("no storage", tensor("N", 0, {1}, {1}), "tensor 'x' has no storage");
  saved("storage size", tensor(storage("FloatStorage", "0", 5), 0, {1}, {1}),
        "has 16 bytes, expected 5 values of 4 bytes");
  saved("storage overflow", tensor(storage("FloatStorage", "0", far), 0, {1}, {1}), "the storage '0' is said to have");
  saved("storage elsewhere", tensor(storage("FloatStorage", "../../../etc/passwd", 4), 0, {1}, {1}),
        "lacks the entry 'archive/data/../../../etc/passwd'");
  saved("storage class", tensor(storage("system", "0", 4), 0, {1}, {1}),
        "expected a storage of PyTorch, found torch.system");
  saved("quantised", tensor(storage("QInt8Storage", "0", 16), 0, {1}, {1}),
        "is of the type QInt8Storage, which is not read");
  saved("sparse", called(global("torch._utils", "_rebuild_sparse_tensor"), ")"),
        "is of a kind that is not read (torch._utils._rebuild_sparse_tensor)");
  value("two of a name", dictionary({{"x", four()}, {"x", four()}}), "the tensor name 'x' is a duplicate");
  value("two of a name by a dot", dictionary({{"a", dictionary({{"b", four()}})}, {"a.b", four()}}),
        "the tensor name 'a.b' is a duplicate");
  value("name not UTF-8", dictionary({{"\xFF", four()}}), "is not UTF-8");

  // Archives.
  const auto good = dictionary({{"x", four()}});
  auto list = archive_parts(good);
  const auto changed = [&](const std::string& name, std::size_t entry, auto change, const std::string& message) {
    auto copy = archive_parts(good);
    change(copy[entry]);
    parts(name, copy, message);
  };
  changed(
      "path up", 2, [](ZipPart& part) { part.name = "archive/../0"; }, "refuses the archive's entry 'archive/../0'");
  changed(
      "path root", 2, [](ZipPart& part) { part.name = "/etc/passwd"; }, "refuses the archive's entry '/etc/passwd'");
  changed(
      "path backslash", 2, [](ZipPart& part) { part.name = "archive\\data"; }, "refuses the archive's entry");
  changed(
      "path end", 2, [](ZipPart& part) { part.name = std::string("archive/data/0\0x", 16); },
      "refuses the archive's entry");
  changed(
      "compressed", 0, [](ZipPart& part) { part.method = 8; }, "is compressed, expected it stored as it is");
  changed(
      "encrypted", 0, [](ZipPart& part) { part.flags |= 1; }, "is encrypted, expected it stored as it is");
  changed(
      "sum of the pickle", 0, [](ZipPart& part) { part.crc_change = 1; }, "'archive/data.pkl' have the CRC-32");
  changed(
      "highest byte first", 1, [](ZipPart& part) { part.bytes = "big"; }, "stored highest byte first ('big')");
  changed(
      "no storage entry", 2, [](ZipPart& part) { part.name = "archive/data/1"; }, "lacks the entry 'archive/data/0'");
  changed(
      "no pickle", 0, [](ZipPart& part) { part.name = "archive/data"; },
      "is a zip archive without the entry 'data.pkl'");
  list.push_back(list[2]);
  parts("entry twice", list, "the archive's entry 'archive/data/0' is a duplicate");
  list.back() = {"other/data.pkl", whole(good)};
  parts("two pickles", list, "holds two pickles");
  list.back() = {"archive/constants.pkl", "x"};
  parts("program", list, "is a TorchScript program");
  // All entries of the list name the same bytes, as a zip bomb does.
  auto bytes = zip_of({{"a/b", std::string(100, 'x')}, {"a/b", std::string(100, 'x')}, {"a/b", std::string(100, 'x')}});
  const auto second = bytes.find("PK\x01\x02", bytes.find("PK\x01\x02") + 1);
  bytes.replace(second + 42, 4, raw<std::uint32_t>(0));
  files.push_back({"entries over each other", bytes, "is a duplicate"});
  bytes = zip_of({{"a/b", "PK\x03\x04" + std::string(200, 'x')}, {"a/c", "y"}});
  const auto inner = bytes.find("PK\x03\x04", 4);
  bytes.replace(inner, 33, bytes.substr(bytes.find("a/c") - 30, 33));
  bytes.replace(bytes.rfind("a/c") - 4, 4, raw(static_cast<std::uint32_t>(inner)));
  files.push_back({"an entry within another", bytes, "entries of the archive overlap"});
  bytes = archive(good);
  files.push_back({"no list", bytes.substr(0, bytes.size() - 1), "the list of the archive's entries is missing"});
  bytes.replace(bytes.size() - 6, 4, raw<std::uint32_t>(0x7FFFFFFF));
  files.push_back({"list elsewhere", bytes, "the list of the archive's entries is said to lie at"});
  bytes = archive(good);
  bytes.replace(bytes.size() - 14, 4, raw<std::uint32_t>(0xFFFF0003));
  files.push_back({"several disks", bytes, "one part of an archive in several parts"});
  bytes = archive(good);
  bytes.replace(bytes.size() - 14, 4, raw<std::uint32_t>(0x00090009));
  files.push_back({"more entries", bytes, "list"});
  bytes = archive(good);
  bytes.replace(bytes.find("PK\x01\x02") + 42, 4, raw<std::uint32_t>(64));
  files.push_back({"local header", bytes, "there is another entry than 'archive/data.pkl'"});
  bytes = zip_of(archive_parts(good), true);
  files.push_back({"64 bits", bytes, ""});
  bytes.replace(bytes.size() - 22 - 12, 8, raw(~std::uint64_t{0}));
  files.push_back({"64-bit record elsewhere", bytes, "the archive's 64-bit record is said to lie at byte"});
  bytes = zip_of(archive_parts(good), true);
  bytes.replace(bytes.find("PK\x06\x06") + 40, 8, raw(std::uint64_t{1} << 60));
  files.push_back({"64-bit list", bytes, "the archive's two records of its entries differ"});

  // The old layout.
  const auto keys = "](" + text("0") + "e";
  const auto old = dictionary({{"x", four("N")}});
  files.push_back({"old layout", legacy_file(old, keys, four_legacy()), ""});
  files.push_back(
      {"old layout, part of a storage",
       legacy_file(dictionary({{"x", tensor(storage("FloatStorage", "0", 4, tuple({text("9"), integer(1), integer(2)})),
                                            0, {2}, {1})}}),
                   keys, four_legacy()),
       ""});
  files.push_back(
      {"old layout, part outside",
       legacy_file(dictionary({{"x", tensor(storage("FloatStorage", "0", 4, tuple({text("9"), integer(3), integer(2)})),
                                            0, {1}, {1})}}),
                   keys, four_legacy()),
       "a part of the storage '0' is said to be"});
  files.push_back({"magic number", legacy_file(old, keys, four_legacy(), 1001, "\x88", "0123456789"),
                   "its magic number is missing"});
  files.push_back({"old version", legacy_file(old, keys, four_legacy(), 1000), "expected the version 1001"});
  files.push_back({"old order", legacy_file(old, keys, four_legacy(), 1001, "\x89"), "stored highest byte first"});
  files.push_back({"listed twice", legacy_file(old, "](" + text("0") + text("0") + "e", four_legacy() + four_legacy()),
                   "lists the storage '0' twice"});
  files.push_back({"not listed", legacy_file(old, "]", {}), "it lacks the storage '0'"});
  files.push_back({"unknown storage", legacy_file(old, "](" + text("1") + "e", four_legacy()),
                   "lists a storage that its pickle does not have"});
  files.push_back({"no list of storages", legacy_file(old, "N", four_legacy()), "expected a list of storages"});
  files.push_back({"storage size", legacy_file(old, keys, raw<std::uint64_t>(5) + four_numbers()),
                   "has 5 values, its pickle says 4"});
  files.push_back(
      {"storage cut off", legacy_file(old, keys, raw<std::uint64_t>(4) + "abc"), "takes 16 bytes from byte"});
  files.push_back(
      {"a long pickle",
       legacy_file("X" + raw<std::uint32_t>(3'000'000) + std::string(3'000'000, 'y') + "0" + old, keys, four_legacy()),
       ""});
  files.push_back({"another pickle", whole(dictionary({{"a", "N"}})), "is a pickle that torch.save did not write"});
  files.push_back({"another file", "neither zip nor pickle", "is not a file that torch.save wrote"});
  files.push_back({"nothing", "", "is not a file that torch.save wrote"});
  return files;
}

}  // namespace ip2p::testing::pickled
