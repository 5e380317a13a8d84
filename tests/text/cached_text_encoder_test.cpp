#include "ip2p/text/cached_text_encoder.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
using ip2p::testing::ScratchDir;

namespace {

/// Records what it is asked for; a prompt's context is its length.
struct CountingEncoder {
  std::shared_ptr<std::vector<std::string>> asked = std::make_shared<std::vector<std::string>>();

  at::Tensor encode(std::span<const std::string> prompts) const {
    std::vector<at::Tensor> rows;
    for (const auto& prompt : prompts) {
      asked->push_back(prompt);
      rows.push_back(at::full({3, 4}, static_cast<double>(prompt.size()), at::requires_grad()));
    }
    return at::stack(rows);
  }
};

constexpr std::size_t row_bytes = 3 * 4 * sizeof(float);

}  // namespace

TEST_CASE("A cached text encoder returns what the encoder returns, and asks it once for each prompt", "[text]") {
  const CountingEncoder plain;
  const CachedTextEncoder cached(plain);
  const std::vector<std::string> prompts{"red", "", "blue", "red"};
  REQUIRE(cached.encode(prompts).equal(CountingEncoder{}.encode(prompts)));
  REQUIRE(cached.encode(prompts).equal(CountingEncoder{}.encode(prompts)));
  REQUIRE_FALSE(cached.encode(prompts).requires_grad());
  REQUIRE(*plain.asked == std::vector<std::string>{"red", "", "blue"});
  REQUIRE(cached.made() == 3);
  REQUIRE_THROWS_WITH(cached.encode({}), Catch::Contains("at least one"));
}

TEST_CASE("A cached text encoder drops what was used least recently", "[text]") {
  const CountingEncoder plain;
  const CachedTextEncoder cached(plain, {.most_bytes = 2 * row_bytes});
  const auto ask = [&](const std::string& prompt) {
    const auto context = cached.encode(std::span(&prompt, 1));
    REQUIRE(context[0][0][0].item<float>() == static_cast<float>(prompt.size()));
  };
  for (const auto* prompt : {"a", "bb", "a", "ccc", "a"}) ask(prompt);  // "bb" goes
  REQUIRE(*plain.asked == std::vector<std::string>{"a", "bb", "ccc"});
  ask("bb");
  REQUIRE(plain.asked->size() == 4);
}

TEST_CASE("Texts kept on disk serve only the encoder they belong to, and are encoded again if damaged", "[text]") {
  const ScratchDir scratch;
  const auto folder = scratch.path() / "texts";
  const std::vector<std::string> prompts{"make it snow", "line\nbreak and \"quotes\""};
  const auto made_by = [&](const std::string& name) {
    const CachedTextEncoder cached(CountingEncoder{}, {.folder = folder, .encoder = name});
    REQUIRE(cached.encode(prompts).equal(CountingEncoder{}.encode(prompts)));
    return cached.made();
  };
  REQUIRE(made_by("first") == 2);
  REQUIRE(made_by("first") == 0);
  REQUIRE(made_by("other") == 2);
  REQUIRE(made_by("first") == 0);  // Both encoders have files of their own.
  REQUIRE(made_by("other") == 0);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  REQUIRE(files.size() == 4);
  std::filesystem::resize_file(files[0], std::filesystem::file_size(files[0]) - 1);
  const auto half = files[1].parent_path() / ".x.safetensors.0123456789abcdef.tmp";  // of a process that was killed
  std::ofstream(half) << "half";
  REQUIRE(made_by("first") + made_by("other") == 1);
  REQUIRE_FALSE(std::filesystem::exists(half));
  REQUIRE(made_by("first") + made_by("other") == 0);
  REQUIRE_THROWS_WITH(CachedTextEncoder(CountingEncoder{}, {.folder = folder}), Catch::Contains("checksum"));
}

TEST_CASE("A cached text's file has the same name everywhere and is used only for its own text", "[text]") {
  const ScratchDir scratch;
  const auto folder = scratch.path() / "texts";
  const auto made = [&](const std::string& prompt) {
    const CachedTextEncoder cached(CountingEncoder{}, {.folder = folder, .encoder = "e"});
    const auto context = cached.encode(std::span(&prompt, 1));
    REQUIRE(context.equal(CountingEncoder{}.encode(std::span(&prompt, 1))));
    return cached.made();
  };
  // FNV-1a of 64 bits over "e", a zero byte and the prompt, by its published constants.
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char byte : {'e', '\0', 'r', 'e', 'd'}) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
  }
  const auto name = fmt::format("{:016x}.safetensors", hash);
  const auto path = folder / name.substr(14, 2) / name;
  REQUIRE(made("red") == 1);
  REQUIRE(std::filesystem::exists(path));
  REQUIRE(made("red") == 0);

  const auto rewritten = [&](std::map<std::string, std::string> metadata, const at::Tensor& context) {
    write_safetensors(path, {{"context", context}}, metadata);
    return made("red");
  };
  const auto good = SafetensorsFile::open(path);
  const auto context = good.tensor("context");
  const auto metadata = good.metadata();
  const auto with = [&](const std::string& key, const std::string& value) {
    auto other = metadata;
    other[key] = value;
    return other;
  };
  CHECK(rewritten(metadata, context) == 0);
  CHECK(rewritten(with("prompt", "reb"), context) == 1);  // A text of the same name.
  CHECK(rewritten(with("encoder", "f"), context) == 1);
  CHECK(rewritten(metadata, context + 1) == 1);                           // Values that changed.
  CHECK(rewritten({{"prompt", "red"}, {"encoder", "e"}}, context) == 1);  // Without a checksum.
  CHECK(rewritten(metadata, context.to(at::kHalf)) == 1);
  CHECK(rewritten(metadata, context.flatten()) == 1);
  CHECK(made("red") == 0);
}

TEST_CASE("A text that is not UTF-8 is cached in memory only", "[text]") {
  const ScratchDir scratch;
  const CachedTextEncoder cached(CountingEncoder{}, {.folder = scratch.path() / "texts", .encoder = "e"});
  const std::vector<std::string> prompts{"\xff", "\xff"};
  CHECK(cached.encode(prompts).equal(CountingEncoder{}.encode(prompts)));
  CHECK(cached.made() == 1);
  CHECK_FALSE(std::filesystem::exists(scratch.path() / "texts"));
}
