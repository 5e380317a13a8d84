#include "ip2p/text/cached_text_encoder.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <filesystem>
#include <fstream>
#include <memory>
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
  REQUIRE(made_by("first") == 2);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::filesystem::resize_file(entry.path(), entry.file_size() - 1);
    break;
  }
  REQUIRE(made_by("first") == 1);
  REQUIRE_THROWS_WITH(CachedTextEncoder(CountingEncoder{}, {.folder = folder}), Catch::Contains("checksum"));
}
