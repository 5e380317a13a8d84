#include "ip2p/io/pickle_file.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/view_as_real.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/crafted_pickle.hpp"
#include "io/pickled_weights.hpp"
#include "ip2p/io/crc32.hpp"
#include "ip2p/io/lora_file.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

// Expected values: torch.load, by tests/parity/make_pickle_fixtures.py. tests/fuzz has the hostile files by thousands.

namespace {

using ip2p::PickleFile;
using ip2p::SafetensorsFile;
using ip2p::WeightAccess;
using ip2p::testing::error_of;
using ip2p::testing::fixture;
using ip2p::testing::ScratchDir;
using ip2p::testing::slurp;
using ip2p::testing::spill;
using ip2p::testing::spill_pickle;
namespace pickled = ip2p::testing::pickled;

/// The bytes of a contiguous tensor.
std::string content(const at::Tensor& tensor) {
  std::string bytes(tensor.nbytes(), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), tensor.data_ptr(), bytes.size());
  return bytes;
}

std::string reading(const std::filesystem::path& path, const std::string& name,
                    const ip2p::SafetensorsOptions& options = {}) {
  return error_of([&] { static_cast<void>(PickleFile::open(path, options).tensor(name)); });
}

}  // namespace

TEST_CASE("Pickles: every tensor is what torch.load returns, in both layouts", "[io]") {
  const auto folder = fixture("io/fixtures/pickles");
  const auto expected = SafetensorsFile::open(folder / "expected.safetensors");
  std::map<std::string, std::set<std::string>> files;
  for (const auto& name : expected.names()) {
    const auto slash = name.find('/');
    files[name.substr(0, slash)].insert(name.substr(slash + 1));
  }
  REQUIRE(files.size() == 17);
  std::size_t compared = 0;
  for (const auto& [name, tensors] : files) {
    for (const auto access : {WeightAccess::copied, WeightAccess::mapped}) {
      INFO(name);
      CHECK(PickleFile::recognises(folder / name));
      const auto file = PickleFile::open(folder / name, {.access = access});
      const auto names = file.names();
      CHECK(std::set<std::string>(names.begin(), names.end()) == tensors);
      for (const auto& tensor : tensors) {
        INFO(tensor);
        const auto key = name + "/" + tensor;
        const auto value = file.tensor(tensor);
        const auto wanted = expected.tensor(key);
        REQUIRE(value.is_contiguous());
        CHECK(value.sizes() == at::IntArrayRef(file.shape(tensor)));
        CHECK(value.scalar_type() == file.dtype(tensor));
        CHECK(content(value) == content(wanted));
        if (const auto type = expected.metadata().find(key); type != expected.metadata().end()) {
          const auto dtype = type->second == "torch.complex128"        ? at::kComplexDouble
                             : type->second == "torch.float8_e4m3fnuz" ? at::kFloat8_e4m3fnuz
                                                                       : at::kFloat8_e5m2fnuz;
          CHECK(value.scalar_type() == dtype);
        } else {
          CHECK(value.scalar_type() == wanted.scalar_type());
          CHECK(value.sizes() == wanted.sizes());
        }
        ++compared;
      }
    }
  }
  CHECK(compared > 200);
  // hostile.ckpt holds a call of os.system twice.
  CHECK(slurp(folder / "hostile.ckpt").find("ip2p-was-here") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists("ip2p-was-here"));
}

TEST_CASE("Pickles: mapped tensors outlive their file, and may be written to", "[io]") {
  const ScratchDir scratch;
  const auto path = scratch / "x.pt";
  const auto value = at::arange(100'000, at::kFloat);
  spill_pickle(path, {{"x", value}, {"y", value.add(1)}});
  at::Tensor x, y;
  {
    const auto file = PickleFile::open(path, {.access = WeightAccess::mapped});
    x = file.tensor("x");
    y = file.tensor("y");
    x.add_(5);
    CHECK(at::equal(file.tensor("x"), value));  // a write stays in this process's copy
  }
  std::filesystem::remove(path);
  CHECK(at::equal(x, value.add(5)));
  CHECK(at::equal(y, value.add(1)));
}

TEST_CASE("Pickles: a file of more than 4 GiB is read beyond the 32 bits of its places", "[io]") {
  // Written by hand and sparse: a storage of 5 GiB that is not looked at, and behind it one that is.
  using namespace pickled;
  const ScratchDir scratch;
  const auto path = scratch / "x.pt";
  constexpr std::uint64_t large = std::uint64_t{5} << 30;
  const auto pickle = whole(dictionary({{"large", tensor(storage("ByteStorage", "0", large), 0, {large}, {1})},
                                        {"behind", tensor(storage("FloatStorage", "1", 4), 1, {3}, {1})}}));
  struct Part {
    std::string name, bytes;
    std::uint64_t size;
  };
  const std::vector<Part> parts{
      {"a/data.pkl", pickle, pickle.size()}, {"a/data/0", "", large}, {"a/data/1", four_numbers(), 16}};
  std::ofstream stream(path, std::ios::binary);
  std::string list;
  std::uint64_t position = 0;
  for (const auto& part : parts) {
    const auto crc = ip2p::detail::crc32(std::as_bytes(std::span(part.bytes)));
    const auto local = "PK\x03\x04" + raw<std::uint16_t>(45) + raw<std::uint16_t>(8) + std::string(18, '\0') +
                       raw(static_cast<std::uint16_t>(part.name.size())) + raw<std::uint16_t>(0) + part.name;
    stream.seekp(static_cast<std::streamoff>(position));
    stream << local << part.bytes;
    list += "PK\x01\x02" + raw<std::uint32_t>(45) + raw<std::uint16_t>(8) + std::string(6, '\0') + raw(crc) +
            std::string(8, '\xFF') + raw(static_cast<std::uint16_t>(part.name.size())) + raw<std::uint16_t>(28) +
            std::string(10, '\0') + std::string(4, '\xFF') + part.name + raw<std::uint16_t>(1) +
            raw<std::uint16_t>(24) + raw(part.size) + raw(part.size) + raw(position);
    position += local.size() + part.size;
  }
  stream.seekp(static_cast<std::streamoff>(position));
  stream << list << "PK\x06\x06" << raw<std::uint64_t>(44) << raw<std::uint32_t>(45) << raw<std::uint64_t>(0)
         << raw<std::uint64_t>(3) << raw<std::uint64_t>(3) << raw<std::uint64_t>(list.size()) << raw(position)
         << "PK\x06\x07" << raw<std::uint32_t>(0) << raw<std::uint64_t>(position + list.size()) << raw<std::uint32_t>(1)
         << "PK\x05\x06" << raw<std::uint32_t>(0) << raw<std::uint16_t>(3) << raw<std::uint16_t>(3)
         << raw(static_cast<std::uint32_t>(list.size())) << std::string(4, '\xFF') << raw<std::uint16_t>(0);
  stream.close();
  REQUIRE(std::filesystem::file_size(path) > large);
  const auto file = PickleFile::open(path, {.access = WeightAccess::mapped});
  CHECK(file.shape("large") == std::vector<std::int64_t>{static_cast<std::int64_t>(large)});
  CHECK(at::equal(file.tensor("behind"), at::arange(2, 5, at::kFloat)));
}

TEST_CASE("Pickles: damage of a storage is found when its first tensor is read", "[io]") {
  using namespace pickled;
  const ScratchDir scratch;
  const auto path = scratch / "x.pt";
  auto parts = archive_parts(dictionary({{"all", four()},
                                         {"some", tensor(storage("FloatStorage", "0", 4), 1, {2}, {1})},
                                         {"column", tensor(storage("FloatStorage", "0", 4), 1, {2}, {2})}}));
  parts[2].crc_change = 0x10;
  spill(path, zip_of(parts));
  for (const char* name : {"all", "some", "column"}) {
    CHECK_THAT(reading(path, name),
               Contains("is damaged: the bytes of the archive's entry 'archive/data/0' have the CRC-32") &&
                   Contains("copy or download the file again"));
  }
  spill_pickle(path, {{"x", at::ones({100'000})}});
  auto bytes = slurp(path);
  bytes[bytes.size() / 2] ^= 1;
  spill(path, bytes);
  for (const auto access : {WeightAccess::copied, WeightAccess::mapped}) {
    CHECK_THAT(reading(path, "x", {.access = access}), Contains("the archive's entry 'archive/data/0'"));
  }
  // A file that becomes shorter after it was opened.
  spill_pickle(path, {{"x", at::ones({100'000})}});
  const auto file = PickleFile::open(path);
  std::filesystem::resize_file(path, 1000);
  CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("x")); }), Contains("the file shrank"));
}

TEST_CASE("Pickles: values that no tensor should have are refused", "[io]") {
  using namespace pickled;
  const ScratchDir scratch;
  const auto path = scratch / "x.pt";
  auto parts = archive_parts(dictionary({{"x", tensor(storage("BoolStorage", "0", 4), 0, {2}, {2})}}));
  parts[2].bytes = std::string("\1\7\0\7", 4);
  spill(path, zip_of(parts));
  CHECK(reading(path, "x") == "no error");  // the view passes over the others
  parts[2].bytes = std::string("\1\0\2\0", 4);
  spill(path, zip_of(parts));
  CHECK_THAT(reading(path, "x"), Contains("tensor 'x' is BOOL but holds bytes other than 0 and 1"));
  spill_pickle(path, {{"x", at::full({2}, INFINITY)}});
  CHECK(reading(path, "x") == "no error");
  CHECK_THAT(reading(path, "x", {.check_finite = true}), Contains("holds 0 NaN and 2 infinite values"));
  CHECK_THAT(reading(path, "y"), Contains("has no tensor 'y'; nearest: 'x'"));
}

TEST_CASE("Weight files are told by what they hold, not by their names", "[io]") {
  const ScratchDir scratch;
  const auto one = at::ones({3});
  ip2p::write_safetensors(scratch / "a.ckpt", {{"x", one}}, {{"note", "text"}});
  spill_pickle(scratch / "b.safetensors", {{"x", one}});
  spill_pickle(scratch / "c", {{"x", one}}, ip2p::testing::PickleLayout::legacy);
  for (const char* name : {"a.ckpt", "b.safetensors", "c"}) {
    const auto file = ip2p::open_weight_file(scratch / name);
    REQUIRE(file.weights.size() == 1);
    CHECK(at::equal(file.weights.at("x").read(), one));
    CHECK(file.metadata.contains("note") == (std::string(name) == "a.ckpt"));
  }
  // Headers of safetensors whose lengths begin with the bytes of a pickle.
  for (const std::size_t length : {0x0280U, 0x0480U}) {
    const auto body = R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    auto header = std::string(body) + std::string(length - std::strlen(body), ' ');
    spill(scratch / "d", pickled::raw<std::uint64_t>(length) + header + "x");
    CHECK(ip2p::open_weight_file(scratch / "d").weights.contains("x"));
  }
  spill(scratch / "e", pickled::archive("](" + pickled::text("x") + "e"));
  CHECK_THAT(error_of([&] { static_cast<void>(ip2p::open_weight_file(scratch / "e")); }),
             Contains("is a pickle without tensors") && Contains("found a list of 1 values"));
  spill(scratch / "f", "PK\x03\x04 and so on, but no archive");
  CHECK_THAT(error_of([&] { static_cast<void>(ip2p::open_weight_file(scratch / "f")); }),
             Contains("is truncated or damaged"));
  spill(scratch / "g", "<!DOCTYPE html><html>");
  CHECK_THAT(error_of([&] { static_cast<void>(ip2p::open_weight_file(scratch / "g")); }), Contains("HTML page"));
}

TEST_CASE("A LoRA that was saved as a pickle is read", "[io][lora]") {
  const auto lora = ip2p::LoraFile::open(fixture("io/fixtures/pickles/lora.pt"));
  REQUIRE(lora.layers().size() == 1);
  CHECK(lora.layers()[0].rank == 2);
  CHECK(lora.layers()[0].strength == 0.5);
  CHECK(lora.layers()[0].up.read().sizes() == at::IntArrayRef({8, 2}));
}

TEST_CASE("CRC-32 has its published check value, and is the same by tables and by products", "[io]") {
  const std::string digits = "123456789";
  CHECK(ip2p::detail::crc32(std::as_bytes(std::span(digits))) == 0xCBF43926);
  std::vector<std::byte> bytes(5000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761U >> 11);
  for (const std::size_t length : {0, 1, 7, 8, 15, 63, 64, 65, 79, 127, 128, 129, 1000, 4997}) {
    const auto part = std::span(bytes).subspan(3, length);
    const auto whole = ip2p::detail::crc32(part);
    CHECK(whole == ~ip2p::detail::crc32_by_tables(part, ~0U));
    const auto first = ip2p::detail::crc32(part.first(length / 3));
    CHECK(ip2p::detail::crc32(part.subspan(length / 3), first) == whole);
  }
}
