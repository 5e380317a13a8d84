#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <string>

#include "io/crafted_safetensors.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::SafetensorsFile;
using ip2p::WeightAccess;
using ip2p::testing::crafted;
using ip2p::testing::error_of;
using ip2p::testing::ScratchDir;
using ip2p::testing::slurp;
using ip2p::testing::spill;

/// What opening a file of these bytes says.
std::string opening_bytes(std::string_view bytes) {
  const ScratchDir scratch;
  spill(scratch / "x.safetensors", bytes);
  return error_of([&] { static_cast<void>(SafetensorsFile::open(scratch / "x.safetensors")); });
}

std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"a":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}

const std::map<std::string, at::ScalarType> fixture_types{{"bool", at::kBool},
                                                          {"u8", at::kByte},
                                                          {"i8", at::kChar},
                                                          {"i16", at::kShort},
                                                          {"u16", at::kUInt16},
                                                          {"i32", at::kInt},
                                                          {"u32", at::kUInt32},
                                                          {"i64", at::kLong},
                                                          {"u64", at::kUInt64},
                                                          {"f16", at::kHalf},
                                                          {"bf16", at::kBFloat16},
                                                          {"f32", at::kFloat},
                                                          {"f64", at::kDouble},
                                                          {"e4m3", at::kFloat8_e4m3fn},
                                                          {"e5m2", at::kFloat8_e5m2},
                                                          {"e8m0", at::kFloat8_e8m0fnu},
                                                          {"e4m3fnuz", at::kFloat8_e4m3fnuz},
                                                          {"e5m2fnuz", at::kFloat8_e5m2fnuz},
                                                          {"c64", at::kComplexFloat}};

}  // namespace

TEST_CASE("SafetensorsFile reads every dtype that the Python package writes", "[io]") {
  const auto path = ip2p::testing::fixture("io/fixtures/all_dtypes.safetensors");
  for (const auto access : {WeightAccess::copied, WeightAccess::mapped}) {
    const auto file = SafetensorsFile::open(path, {.access = access, .check_finite = true});
    CHECK(file.tensors().size() == fixture_types.size() + 3);
    CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
    for (const auto& [name, type] : fixture_types) {
      INFO(name);
      const auto tensor = file.tensor(name);
      CHECK(tensor.scalar_type() == type);
      CHECK(tensor.sizes() == at::IntArrayRef({2, 3}));
      const auto values = type == at::kComplexFloat ? at::real(tensor) : tensor.to(at::kDouble);
      const double two = type == at::kBool ? 1 : 2;
      const std::array<double, 6> expected{1, two, 1, two, 1, two};
      for (int i = 0; i < 6; ++i) CHECK(values.reshape({6})[i].item<double>() == expected[i]);
    }
    CHECK(file.tensor("scalar").dim() == 0);
    CHECK(file.tensor("scalar").item<float>() == 2.5F);
    CHECK(file.tensor("empty").sizes() == at::IntArrayRef({0, 3}));
    CHECK(file.tensor("quote \" \\ \xC3\xBC \xE4\xB8\xAD\n").item<float>() == 1.0F);
  }
}

TEST_CASE("write_safetensors writes the same bytes as the Python package", "[io]") {
  const auto path = ip2p::testing::fixture("io/fixtures/all_dtypes.safetensors");
  const auto file = SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& name : file.names()) tensors[name] = file.tensor(name);
  const ScratchDir scratch;
  ip2p::write_safetensors(scratch / "again.safetensors", tensors, file.metadata());
  CHECK(slurp(scratch / "again.safetensors") == slurp(path));
}

TEST_CASE("write_safetensors stores views, strides and layouts as plain rows", "[io]") {
  const ScratchDir scratch;
  const auto base = at::arange(24, at::kFloat).reshape({2, 3, 4});
  const std::map<std::string, at::Tensor> tensors{
      {"transposed", base.transpose(0, 2)},
      {"slice", base.narrow(2, 1, 2)},
      {"channels_last", base.reshape({1, 2, 3, 4}).contiguous(at::MemoryFormat::ChannelsLast)},
      {"expanded", at::ones({1, 5}).expand({3, 5})},
      {"empty", at::empty({0, 7})}};
  ip2p::write_safetensors(scratch / "x.safetensors", tensors);
  const auto file = SafetensorsFile::open(scratch / "x.safetensors");
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    CHECK(file.tensor(name).is_contiguous());
    CHECK(at::equal(file.tensor(name), tensor));
  }
  CHECK(std::filesystem::file_size(scratch / "x.safetensors") % 4 == 0);
}

TEST_CASE("write_safetensors keeps the old file when it refuses", "[io]") {
  const ScratchDir scratch;
  const auto path = scratch / "x.safetensors";
  ip2p::write_safetensors(path, {{"a", at::ones({2})}});
  const auto before = slurp(path);
  const auto refuse = [&](const std::map<std::string, at::Tensor>& tensors) {
    return error_of([&] { ip2p::write_safetensors(path, tensors); });
  };
  CHECK_THAT(refuse({{"gone", at::Tensor()}}), Contains("gone") && Contains("undefined"));
  CHECK_THAT(refuse({{"wide", at::zeros({1}, at::kComplexDouble)}}), Contains("wide") && Contains("no dtype"));
  CHECK_THAT(refuse({{"__metadata__", at::ones({1})}}), Contains("__metadata__"));
  CHECK_THAT(refuse({{"\xFF", at::ones({1})}}), Contains("cannot be the name"));
  CHECK_THAT(error_of([&] {
               ip2p::write_safetensors(path, std::map<std::string, at::Tensor>{}, {{"k", "\xFF"}});
             }),
             Contains("UTF-8"));
  CHECK_THAT(error_of([&] {
               ip2p::write_safetensors(scratch / "no" / "x.safetensors", {{"a", at::ones({1})}});
             }),
             Contains("no folder"));
  CHECK(slurp(path) == before);
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) == 1);
}

TEST_CASE("safetensors: files that the reference accepts are accepted", "[io]") {
  CHECK(opening_bytes(crafted("{}")) == "no error");
  CHECK(opening_bytes(crafted("{}      ")) == "no error");
  CHECK(opening_bytes(crafted(R"({"__metadata__":null})")) == "no error");
  CHECK(opening_bytes(crafted(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":{"y":[1,{"z":2}]}}})",
                              "1234")) == "no error");
  CHECK(opening_bytes(crafted(one_tensor("F32", "[0,5]", "[0,0]"))) == "no error");
  CHECK(opening_bytes(crafted(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                              R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                              "12")) == "no error");
  CHECK(opening_bytes(crafted(R"({"../../etc/passwd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1")) ==
        "no error");
}

TEST_CASE("safetensors: damaged files are refused in the reference's order", "[io]") {
  SECTION("length field and file size") {
    CHECK_THAT(opening_bytes(""), Contains("at least 8 bytes") && Contains("found 0"));
    CHECK_THAT(opening_bytes("1234567"), Contains("at least 8 bytes") && Contains("found 7"));
    std::string huge = crafted("{}");
    const std::uint64_t length = 100'000'001;
    std::memcpy(huge.data(), &length, 8);
    CHECK_THAT(opening_bytes(huge), Contains("claims 100000001 bytes") && Contains("at most 100000000"));
    const std::uint64_t all_ones = std::numeric_limits<std::uint64_t>::max();
    std::memcpy(huge.data(), &all_ones, 8);
    CHECK_THAT(opening_bytes(huge), Contains("at most 100000000"));
    const std::uint64_t three = 3;
    std::memcpy(huge.data(), &three, 8);
    CHECK_THAT(opening_bytes(huge), Contains("truncated") && Contains("claims 3 bytes"));
  }
  SECTION("text") {
    CHECK_THAT(opening_bytes(crafted("{\"a\xFF\":1}")), Contains("not UTF-8") && Contains("byte 3"));
    CHECK_THAT(opening_bytes(crafted("{\"\xED\xA0\x80\":1}")), Contains("not UTF-8"));
    CHECK_THAT(opening_bytes(crafted("{\"\xC0\xAF\":1}")), Contains("not UTF-8"));
    CHECK_THAT(opening_bytes(crafted("")), Contains("not valid JSON"));
    CHECK_THAT(opening_bytes(crafted("{\"a\":")), Contains("not valid JSON"));
    CHECK_THAT(opening_bytes(crafted("{} {}")), Contains("not valid JSON"));
    CHECK_THAT(opening_bytes(crafted(std::string("{}\0", 3))), Contains("not valid JSON"));
    CHECK_THAT(opening_bytes(crafted("[1]")), Contains("the header must be an object"));
    CHECK_THAT(opening_bytes(crafted("7")), Contains("the header must be an object"));
    CHECK_THAT(opening_bytes(crafted(std::string(100000, '['))), Contains("must be an object"));
    CHECK_THAT(opening_bytes(crafted(R"({"a":7})")), Contains("the entry 'a' must be an object"));
    CHECK_THAT(opening_bytes(crafted(R"({"__metadata__":{"k":1}})")), Contains("'k' must be a string"));
    CHECK_THAT(opening_bytes(crafted(R"({"a":{"dtype":"F32","shape":[1]}})")), Contains("'a' lacks its data_offsets"));
    CHECK_THAT(opening_bytes(crafted(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})")), Contains("lacks its shape"));
    CHECK_THAT(opening_bytes(crafted(R"({"a":{"shape":[1],"data_offsets":[0,4]}})")), Contains("lacks its dtype"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[-1]", "[0,4]"))), Contains("negative number -1"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1.5]", "[0,4]"))),
               Contains("shape of tensor 'a'") && Contains("1.5"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1e0]", "[0,4]"))), Contains("whole numbers"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[99999999999999999999]", "[0,4]"))), Contains("whole numbers"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[[1]]", "[0,4]"))), Contains("must be"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1]", "[0]"))), Contains("1 elements, expected 2"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1]", "[0,4,8]"))), Contains("more than 2 elements"));
  }
  SECTION("duplicates") {
    const std::string entry = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
    CHECK_THAT(opening_bytes(crafted("{" + entry + "," + entry + "}", "1")), Contains("'a' is a duplicate"));
    CHECK_THAT(opening_bytes(crafted(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1")),
               Contains("dtype of tensor 'a' is a duplicate"));
    CHECK_THAT(opening_bytes(crafted(R"({"__metadata__":{},"__metadata__":{}})")), Contains("duplicate"));
    CHECK_THAT(opening_bytes(crafted(R"({"__metadata__":{"k":"1","k":"2"}})")), Contains("'k' is a duplicate"));
  }
  SECTION("offsets") {
    const std::string two = R"({{"a":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}},)"
                            R"("b":{{"dtype":"U8","shape":[2],"data_offsets":[{},{}]}}}})";
    CHECK_THAT(opening_bytes(crafted(fmt::format(fmt::runtime(two), 3, 5), "12345")),
               Contains("hole of 1 bytes before tensor 'b'"));
    CHECK_THAT(opening_bytes(crafted(fmt::format(fmt::runtime(two), 1, 3), "123")),
               Contains("'b'") && Contains("overlaps"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[1]", "[1,2]"), "12")), Contains("hole"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[1]", "[2,1]"), "12")), Contains("run backwards"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[2]", "[0,1]"), "1")),
               Contains("takes 2 bytes") && Contains("span 1"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1]", "[0,4]"), "123")), Contains("truncated"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[1]", "[0,4]"), "12345")), Contains("1 trailing bytes"));
    CHECK_THAT(opening_bytes(crafted("{}", "1")), Contains("1 trailing bytes"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[18446744073709551615]", "[0,18446744073709551615]"))),
               Contains("overflows"));
  }
  SECTION("names that would spoil a message") {
    const auto message =
        opening_bytes(crafted(R"({"a\u0000b\u001b[31m":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", "1"));
    CHECK_THAT(message, Contains(R"('a\x00b\x1b[31m')") && Contains("takes 2 bytes"));
    const auto endless = R"({")" + std::string(100000, 'n') + R"(":7})";
    CHECK(opening_bytes(crafted(endless)).size() < 600);
  }
  SECTION("sizes") {
    CHECK_THAT(opening_bytes(crafted(one_tensor("F4", "[2]", "[0,1]"), "1")),
               Contains("dtype 'F4'") && Contains("LibTorch"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("float32", "[1]", "[0,4]"), "1234")), Contains("dtype 'float32'"));
    // 2^62 * 4 bytes wraps to 0 in 64 bits: the classic that makes a huge tensor look empty.
    CHECK_THAT(opening_bytes(crafted(one_tensor("F32", "[4611686018427387904]", "[0,0]"))), Contains("overflows"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[4294967296,4294967296]", "[0,0]"))), Contains("overflows"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[0,4294967296,4294967296]", "[0,0]"))), Contains("overflows"));
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", "[9223372036854775808]", "[0,0]"))), Contains("overflows"));
    std::string ones = "[1";
    for (int i = 1; i < 65; ++i) ones += ",1";
    CHECK_THAT(opening_bytes(crafted(one_tensor("U8", ones + "]", "[0,1]"), "1")), Contains("more than 64"));
  }
}

TEST_CASE("safetensors: files that are something else are named", "[io]") {
  CHECK_THAT(opening_bytes("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3438167536\n"),
             Contains("git-LFS pointer") && Contains("git lfs pull"));
  CHECK_THAT(opening_bytes("<!DOCTYPE html><html><head><title>Log in</title></head></html>"), Contains("HTML page"));
  CHECK_THAT(opening_bytes("\n  <html>\n<body>403 Forbidden</body></html>"), Contains("HTML page"));
  CHECK_THAT(opening_bytes(std::string("PK\x03\x04\x00\x00\x08\x08\x00\x00 and so on", 20)),
             Contains("PyTorch pickle"));
  CHECK_THAT(opening_bytes("GGUF\x03\x00\x00\x00 and so on"), Contains("GGUF"));
  CHECK_THAT(opening_bytes("{\"error\":\"Repository not found\"}"), Contains("error message of a server"));
  const ScratchDir scratch;
  const auto open = [](const std::filesystem::path& path) {
    return error_of([&] { static_cast<void>(SafetensorsFile::open(path)); });
  };
  CHECK_THAT(open(scratch.path()), Contains("regular file"));
  CHECK_THAT(open(scratch / "none.safetensors"), Contains("none.safetensors") && Contains("No such file"));
  REQUIRE(::mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(open(scratch / "pipe"), Contains("regular file"));
}

TEST_CASE("SafetensorsFile names the nearest tensors when one is missing", "[io]") {
  const ScratchDir scratch;
  ip2p::write_safetensors(scratch / "x.safetensors", {{"latents", at::ones({1})}, {"other", at::ones({1})}});
  const auto file = SafetensorsFile::open(scratch / "x.safetensors");
  CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("latent")); }), Contains("'latent'; nearest: 'latents'"));
  ip2p::write_safetensors(scratch / "empty.safetensors", std::map<std::string, at::Tensor>{});
  CHECK_THAT(error_of([&] { static_cast<void>(SafetensorsFile::open(scratch / "empty.safetensors").info("a")); }),
             Contains("there are none"));
}

TEST_CASE("SafetensorsFile reports a file that shrank after it was opened", "[io]") {
  const auto access = GENERATE(WeightAccess::copied, WeightAccess::mapped);
  const ScratchDir scratch;
  const auto path = scratch / "x.safetensors";
  ip2p::write_safetensors(path, {{"big", at::ones({1 << 16})}, {"small", at::ones({4})}});
  const auto file = SafetensorsFile::open(path, {.access = access, .check_finite = false});
  std::filesystem::resize_file(path, 4096);
  CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("big")); }), Contains("shrank"));
  CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("small")); }), Contains("shrank"));
}

TEST_CASE("SafetensorsFile: tensors outlive the file, and writing to one does not change the file", "[io]") {
  const auto access = GENERATE(WeightAccess::copied, WeightAccess::mapped);
  const ScratchDir scratch;
  const auto path = scratch / "x.safetensors";
  const auto value = at::arange(1 << 16, at::kFloat);
  ip2p::write_safetensors(path, {{"big", value}, {"odd", at::ones({3}, at::kByte)}, {"tail", value.to(at::kHalf)}});
  const auto before = slurp(path);
  at::Tensor big;
  {
    const auto file = SafetensorsFile::open(path, {.access = access, .check_finite = false});
    big = file.tensor("big");
    const auto again = file.tensor("big");
    big.mul_(2);
    CHECK(at::equal(again, value));  // every call returns copy-on-write memory of its own
  }
  // A replacement by rename leaves the old bytes readable.
  ip2p::write_safetensors(path, {{"other", at::ones({1})}});
  CHECK(at::equal(big, value.mul(2)));
  ip2p::write_safetensors(path, {{"big", value}, {"odd", at::ones({3}, at::kByte)}, {"tail", value.to(at::kHalf)}});
  CHECK(slurp(path) == before);
}

TEST_CASE("SafetensorsFile copies tensors that are not aligned", "[io]") {
  const ScratchDir scratch;
  // A header of odd length puts the float data at an odd address.
  const auto data = std::string(1 << 18, '\x40');
  auto header = one_tensor("F32", "[65536]", "[0,262144]");
  while (header.size() % 2 == 0) header += ' ';
  spill(scratch / "x.safetensors", crafted(header, data));
  const auto file = SafetensorsFile::open(scratch / "x.safetensors", {.access = WeightAccess::mapped});
  const auto tensor = file.tensor("a");
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % sizeof(float) == 0);
  CHECK(same(tensor, at::full({65536}, tensor[0].item<float>())));
}

TEST_CASE("SafetensorsFile counts NaN and infinite values when asked", "[io]") {
  const ScratchDir scratch;
  auto value = at::ones({10});
  value[3] = std::numeric_limits<float>::quiet_NaN();
  value[7] = std::numeric_limits<float>::infinity();
  value[8] = -std::numeric_limits<float>::infinity();
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble, at::kFloat8_e5m2}) {
    ip2p::write_safetensors(scratch / "x.safetensors", {{"bad", value.to(type)}, {"good", at::ones({4}, at::kLong)}});
    const auto file = SafetensorsFile::open(scratch / "x.safetensors", {.check_finite = true});
    CHECK(file.tensor("good").numel() == 4);
    CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("bad")); }),
               Contains("'bad'") && Contains("1 NaN and 2 infinite values among its 10"));
    CHECK(SafetensorsFile::open(scratch / "x.safetensors").tensor("bad").numel() == 10);
  }
}

TEST_CASE("SafetensorsFile refuses BOOL bytes that are neither 0 nor 1", "[io]") {
  const ScratchDir scratch;
  spill(scratch / "x.safetensors", crafted(one_tensor("BOOL", "[3]", "[0,3]"), std::string("\0\1\2", 3)));
  const auto file = SafetensorsFile::open(scratch / "x.safetensors");
  CHECK_THAT(error_of([&] { static_cast<void>(file.tensor("a")); }), Contains("BOOL") && Contains("0 and 1"));
}
