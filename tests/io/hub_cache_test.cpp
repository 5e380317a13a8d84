#include "ip2p/io/hub_cache.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include "io/crafted_safetensors.hpp"
#include "support/catch.hpp"
#include "support/hub_cache.hpp"
#include "support/paths.hpp"

namespace {

namespace fs = std::filesystem;
using ip2p::HubName;
using ip2p::resolve_model;
using ip2p::testing::Environment;
using ip2p::testing::error_of;
using ip2p::testing::ScratchDir;

const std::string first_commit = "0123456789abcdef0123456789abcdef01234567";
const std::string second_commit = "89abcdef0123456789abcdef0123456789abcdef";

/// A snapshot of a model in a cache as huggingface_hub lays it out: a link to a blob.
void add_snapshot(const fs::path& folder, const std::string& commit, const std::string& file = "config.json") {
  const auto blob = folder / "blobs" / ("b" + commit.substr(0, 8) + fs::path(file).filename().string());
  fs::create_directories(blob.parent_path());
  std::ofstream(blob) << "{}";
  const auto place = folder / "snapshots" / commit / file;
  fs::create_directories(place.parent_path());
  fs::create_symlink(fs::proximate(blob, place.parent_path()), place);
}

void add_ref(const fs::path& folder, const std::string& name, const std::string& commit) {
  fs::create_directories((folder / "refs" / name).parent_path());
  std::ofstream(folder / "refs" / name) << commit;
}

}  // namespace

TEST_CASE("HubName reads the Hub's names, and no paths", "[io]") {
  const auto name = HubName::parse("timbrooks/instruct-pix2pix");
  REQUIRE(name.has_value());
  CHECK(name->id == "timbrooks/instruct-pix2pix");
  CHECK(name->folder() == "models--timbrooks--instruct-pix2pix");
  CHECK(name->part.empty());
  CHECK(name->revision.empty());

  const auto whole = HubName::parse("owner/some.model_2/vae/sub@refs/pr/4");
  REQUIRE(whole.has_value());
  CHECK(whole->id == "owner/some.model_2");
  CHECK(whole->part == "vae/sub");
  CHECK(whole->revision == "refs/pr/4");
  CHECK(whole->text() == "owner/some.model_2/vae/sub@refs/pr/4");
  CHECK(HubName::parse("gpt2")->folder() == "models--gpt2");
  CHECK(HubName::parse("owner/model/file.safetensors")->part == "file.safetensors");

  for (const std::string text : {"",
                                 "/models/a",
                                 "./a",
                                 "../a/b",
                                 "~/a",
                                 "a//b",
                                 "a/b/",
                                 "a/b/../c",
                                 "a/b/c/..",
                                 "a b/c",
                                 "a/b@",
                                 "a/b@../x",
                                 "a/b@-x",
                                 "a/b@x//y",
                                 "model.safetensors",
                                 "models/model.ckpt",
                                 "a/b--c",
                                 "a/b..c",
                                 "-a/b",
                                 "a/.b",
                                 "a/b.",
                                 "a/b/c\\d",
                                 "a/b/c\nd",
                                 "a@b@/c"}) {
    CAPTURE(text);
    CHECK_FALSE(HubName::parse(text).has_value());
  }
  CHECK_FALSE(HubName::parse(std::string("a/") + std::string(100, 'b')).has_value());
}

TEST_CASE("The cache is where huggingface_hub looks for it", "[io]") {
  const std::map<std::string, std::optional<std::string>> none{
      {"HF_HOME", {}},        {"HF_HUB_CACHE", {}},      {"HUGGINGFACE_HUB_CACHE", {}},
      {"XDG_CACHE_HOME", {}}, {"HOME", "/home/someone"}, {"IP2P_TEST_DISK", "/disk"}};
  const Environment clean(none);
  CHECK(ip2p::hub_cache() == "/home/someone/.cache/huggingface/hub");
  const auto with = [](const std::string& name, const std::string& value) {
    const Environment one(Environment::Values{{name, value}});
    return ip2p::hub_cache();
  };
  CHECK(with("XDG_CACHE_HOME", "/xdg") == "/xdg/huggingface/hub");
  CHECK(with("HF_HOME", "~/hf") == "/home/someone/hf/hub");
  CHECK(with("HF_HOME", "$IP2P_TEST_DISK/hf") == "/disk/hf/hub");
  CHECK(with("HF_HUB_CACHE", "${IP2P_TEST_DISK}/cache") == "/disk/cache");
  CHECK(with("HF_HUB_CACHE", "/a$IP2P_TEST_UNSET/b$/${x") == "/a$IP2P_TEST_UNSET/b$/${x");
  CHECK(with("HUGGINGFACE_HUB_CACHE", "/old") == "/old");
  CHECK(with("HF_HOME", "") == "/home/someone/.cache/huggingface/hub");
  const Environment several(
      Environment::Values{{"HF_HOME", "/hf"}, {"HF_HUB_CACHE", "/cache"}, {"XDG_CACHE_HOME", "/xdg"}});
  CHECK(ip2p::hub_home() == "/hf");
  CHECK(ip2p::hub_cache() == "/cache");
}

TEST_CASE("A model is found by name, revision, part and commit, or by its folder", "[io]") {
  const ScratchDir cache;
  const auto folder = cache / "models--owner--editor";
  add_snapshot(folder, first_commit);
  add_snapshot(folder, first_commit, "vae/config.json");
  add_snapshot(folder, second_commit);
  add_ref(folder, "main", first_commit);
  add_ref(folder, "refs/pr/4", second_commit + "\n");
  add_ref(folder, "v1", second_commit);
  const auto at_first = folder / "snapshots" / first_commit;
  const auto at_second = folder / "snapshots" / second_commit;
  const auto found = [&](const fs::path& model) { return resolve_model(model, cache.path()); };

  CHECK(found("owner/editor") == at_first);
  CHECK(found("owner/editor@main") == at_first);
  CHECK(found("owner/editor@v1") == at_second);
  CHECK(found("owner/editor@refs/pr/4") == at_second);
  CHECK(found("owner/editor@" + second_commit) == at_second);
  CHECK(found("owner/editor@" + second_commit.substr(0, 8)) == at_second);
  CHECK(found("owner/editor/vae") == at_first / "vae");
  CHECK(found("owner/editor/vae/config.json") == at_first / "vae/config.json");
  CHECK(found(folder) == at_first);
  CHECK(found(folder.string() + "/") == at_first);
  CHECK(found(folder.string() + "@v1") == at_second);
  CHECK(found(folder / "snapshots") == at_first);
  CHECK(found(folder / "snapshots/") == at_first);
  CHECK(found(at_second) == at_second);
  CHECK(found(at_first / "vae") == at_first / "vae");
  CHECK(found(cache.path()) == cache.path());

  CHECK(error_of([&] { found("owner/editor/unet"); }) ==
        fmt::format("cannot open the model 'owner/editor/unet': the cache '{}' holds the model, but no 'unet' in it",
                    cache.path().string()));
  CHECK(
      error_of([&] { found("owner/editor@v2"); }) ==
      fmt::format("cannot open the model 'owner/editor@v2': there is no such file or folder, and the cache '{}' holds "
                  "it in other revisions only: {}, {}",
                  cache.path().string(), first_commit, second_commit));
  CHECK(error_of([&] { found("owner/other"); }) ==
        fmt::format("cannot open the model 'owner/other': there is no such file or folder, and the cache '{}' holds no "
                    "model of this name",
                    cache.path().string()));
  CHECK(error_of([&] { found("/owner/other"); }) ==
        "cannot open the model '/owner/other': there is no such file or folder");
  CHECK(error_of([&] { found(folder.string() + "@v2"); }) ==
        fmt::format("{}: expected a snapshot of the revision 'v2', found {}, {}", folder.string(), first_commit,
                    second_commit));
}

TEST_CASE("Without the ref main, the only snapshot is taken, and several are named", "[io]") {
  const ScratchDir cache;
  const auto folder = cache / "models--gpt2";
  fs::create_directories(folder / "refs");
  fs::create_directories(folder / "snapshots");
  CHECK_THROWS_WITH(resolve_model(folder), Contains("expected a snapshot of the revision 'main', found none"));
  CHECK_THROWS_WITH(resolve_model("gpt2", cache.path()), Contains("in other revisions only"));
  add_snapshot(folder, first_commit);
  CHECK(resolve_model("gpt2", cache.path()) == folder / "snapshots" / first_commit);
  // A ref to a commit of which no file has come yet.
  add_ref(folder, "main", second_commit);
  CHECK(resolve_model("gpt2", cache.path()) == folder / "snapshots" / first_commit);
  fs::remove(folder / "refs/main");
  add_snapshot(folder, second_commit);
  CHECK_THROWS_WITH(resolve_model("gpt2", cache.path()),
                    Contains("holds several revisions") && Contains(first_commit) && Contains(second_commit));
  // What a ref names is no way out of the cache.
  add_ref(folder, "main", "../../../etc");
  add_ref(folder, "v1", "../../../etc");
  CHECK_THROWS_WITH(resolve_model("gpt2", cache.path()), Contains("holds several revisions"));
  CHECK_THROWS_WITH(resolve_model("gpt2@v1", cache.path()), Contains("in other revisions only"));
}

TEST_CASE("What lies at a path counts before a name, whatever the cache holds", "[io]") {
  const ScratchDir cache, work;
  add_snapshot(cache / "models--owner--editor", first_commit);
  fs::create_directories(work / "owner/editor");
  const auto before = fs::current_path();
  fs::current_path(work.path());
  const auto found = resolve_model("owner/editor", cache.path());
  fs::current_path(before);
  CHECK(found == "owner/editor");
}
