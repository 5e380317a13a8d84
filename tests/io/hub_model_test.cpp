#include <filesystem>
#include <fstream>
#include <string>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/model_files.hpp"
#include "support/catch.hpp"
#include "support/hub_cache.hpp"
#include "support/paths.hpp"

TEST_CASE("ModelFiles opens what diffusers has downloaded, by name and by folder", "[io]") {
  const ip2p::testing::ScratchDir cache;
  const ip2p::testing::Environment only(ip2p::testing::only_cache(cache.path()));
  const std::string commit = "0123456789abcdef0123456789abcdef01234567";
  const auto folder = cache / "models--someone--an-editor";
  const auto tiny = ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p");
  const auto snapshot = ip2p::testing::add_to_cache(folder, tiny, commit);
  const auto expected = ip2p::ModelFiles::open(tiny);
  for (const std::filesystem::path& name : {std::filesystem::path("someone/an-editor"),
                                            std::filesystem::path("someone/an-editor@" + commit), folder, snapshot}) {
    CAPTURE(name.string());
    const auto model = ip2p::ModelFiles::open(name);
    CHECK(model.path() == snapshot);
    for (const char* part : {"unet", "vae", "text_encoder"}) {
      REQUIRE(model.has(part));
      CHECK(model.config(part) == expected.config(part));
      CHECK(model.weights(part).size() == expected.weights(part).size());
    }
    CHECK(model.tokenizer().vocab == snapshot / "tokenizer/vocab.json");
    // Components are named by their places in the model, not by the blobs that these are links to.
    CHECK_THAT(model.describe(), Contains("unet/diffusion_pytorch_model.safetensors") && !Contains("blobs"));
  }

  const auto mixed = ip2p::ModelFiles::open(tiny, {.tokenizer = "someone/an-editor", .vae = "someone/an-editor/vae"});
  CHECK(mixed.tokenizer().vocab == snapshot / "tokenizer/vocab.json");
  CHECK_THAT(mixed.describe(), Contains("from someone/an-editor/vae"));
  CHECK(ip2p::ModelFiles::open("someone/an-editor/text_encoder").has("text_encoder"));

  CHECK_THAT(ip2p::testing::error_of([] { static_cast<void>(ip2p::ModelFiles::open("someone/else")); }),
             Contains("there is no such file or folder, and the cache") && Contains("holds no model of this name"));
}
