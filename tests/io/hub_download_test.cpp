#include "ip2p/io/hub_download.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "io/crafted_safetensors.hpp"
#include "ip2p/io/model_files.hpp"
#include "support/catch.hpp"
#include "support/hub_cache.hpp"
#include "support/paths.hpp"

#if IP2P_HAS_CURL

namespace {

namespace fs = std::filesystem;
using ip2p::download_model;
using ip2p::testing::Environment;
using ip2p::testing::error_of;
using ip2p::testing::ScratchDir;
using ip2p::testing::slurp;
using ip2p::testing::spill;

const std::string hub_commit = "0123456789abcdef0123456789abcdef01234567";
const std::string editor = "someone/an-editor";
const std::string unet_weights = "unet/diffusion_pytorch_model.safetensors";

/// tests/io/fake_hub.py as a process of its own, ended with the test program.
class FakeHub {
 public:
  FakeHub() {
    const auto model = folder_ / editor;
    fs::create_directories(model);
    fs::copy(ip2p::testing::fixture("pipeline/fixtures/tiny-ip2p"), model, fs::copy_options::recursive);
    for (const char* copy : {"unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
                             "instruct-pix2pix-00-22000.safetensors", "README.md", "safety_checker/config.json"}) {
      spill(model / copy, "not needed");
    }
    fs::create_directories(folder_ / "someone/a-vae");
    fs::copy(model / "vae", folder_ / "someone/a-vae");
    spill(folder_ / "someone/a-file/model.safetensors", "one file");
    int to_child[2], from_child[2];
    REQUIRE(pipe(to_child) == 0);
    REQUIRE(pipe(from_child) == 0);
    child_ = fork();
    REQUIRE(child_ >= 0);
    const auto script = ip2p::testing::fixture("io/fake_hub.py").string();
    if (child_ == 0) {
      dup2(to_child[0], 0);
      dup2(from_child[1], 1);
      for (const int end : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(end);
      execlp("python3", "python3", script.c_str(), folder_.path().c_str(), nullptr);
      _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    input_ = to_child[1];
    auto* stream = fdopen(from_child[0], "r");
    int of_store = 0;  // the whole line is read: a server whose line is cut off ends
    const auto found = fscanf(stream, "%d %d%*c", &port_, &of_store);
    fclose(stream);
    REQUIRE(found == 2);
  }
  FakeHub(const FakeHub&) = delete;
  FakeHub& operator=(const FakeHub&) = delete;
  ~FakeHub() {
    close(input_);  // the server runs until then
    waitpid(child_, nullptr, 0);
  }

  [[nodiscard]] fs::path model(const std::string& id = editor) const { return folder_ / id; }
  [[nodiscard]] int port() const { return port_; }

 private:
  ScratchDir folder_;
  pid_t child_ = -1;
  int input_ = -1, port_ = 0;
};

const FakeHub& hub() {
  static const FakeHub one;
  return one;
}

/// A cache of its own, and downloads into it.
struct Fetch {
  Fetch() { options.cache = cache.path(); }

  /// The server behaves like this from now on, and counts from the beginning.
  Fetch& from(const std::string& behaviour) {
    static int number = 0;
    run = std::to_string(++number);
    options.endpoint = fmt::format("http://127.0.0.1:{}/{}/{}", hub().port(), behaviour, run);
    options.first_wait = 0.01;
    return *this;
  }
  fs::path operator()(const std::string& name = editor) const { return download_model(name, options); }
  [[nodiscard]] std::string error(const std::string& name = editor) const {
    return error_of([&] { static_cast<void>((*this)(name)); });
  }

  /// What the server was asked for: "hub GET path", with the token or the range behind it where there is one.
  [[nodiscard]] std::vector<std::string> log() const {
    ip2p::detail::HubClient client({.endpoint = options.endpoint, .token = {}, .cancel = {}});
    const auto json =
        nlohmann::json::parse(client.get(fmt::format("http://127.0.0.1:{}/log/{}", hub().port(), run)).body);
    std::vector<std::string> lines;
    for (const auto& entry : json) {
      auto line = entry["server"].get<std::string>() + " " + entry["method"].get<std::string>() + " " +
                  entry["path"].get<std::string>();
      for (const char* key : {"token", "range"}) {
        if (!entry[key].get<std::string>().empty()) line += " " + entry[key].get<std::string>();
      }
      lines.push_back(line);
    }
    return lines;
  }
  [[nodiscard]] std::size_t count(const std::string& text) const {
    const auto lines = log();
    return static_cast<std::size_t>(std::count_if(
        lines.begin(), lines.end(), [&](const std::string& line) { return line.find(text) != std::string::npos; }));
  }
  [[nodiscard]] fs::path folder(const std::string& id = editor) const {
    return cache.path() / ip2p::HubName::parse(id)->folder();
  }

  ScratchDir cache;
  ip2p::DownloadOptions options;
  std::string run;
  Environment only{ip2p::testing::only_cache(cache.path())};
};

std::set<std::string> files_below(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.insert(entry.path().lexically_relative(folder).string());
  }
  return names;
}

const std::set<std::string> tiny_files{"model_index.json",
                                       "scheduler/scheduler_config.json",
                                       "text_encoder/config.json",
                                       "text_encoder/model.safetensors",
                                       "tokenizer/merges.txt",
                                       "tokenizer/special_tokens_map.json",
                                       "tokenizer/tokenizer_config.json",
                                       "tokenizer/vocab.json",
                                       "unet/config.json",
                                       unet_weights,
                                       "vae/config.json",
                                       "vae/diffusion_pytorch_model.safetensors"};

/// The snapshot is whole, in huggingface_hub's layout, and nothing of the transfer is left.
void check_whole(const Fetch& fetch, const fs::path& snapshot) {
  CHECK(snapshot == fetch.folder() / "snapshots" / hub_commit);
  CHECK(files_below(snapshot) == tiny_files);
  CHECK(slurp(fetch.folder() / "refs/main") == hub_commit);
  for (const auto& file : tiny_files) {
    CAPTURE(file);
    REQUIRE(fs::is_symlink(snapshot / file));
    CHECK(fs::read_symlink(snapshot / file)
              .string()
              .starts_with(file.find('/') == file.npos ? "../../blobs/" : "../../../blobs/"));
    CHECK(slurp(snapshot / file) == slurp(hub().model() / file));
  }
  for (const auto& blob : files_below(fetch.folder() / "blobs")) CHECK_THAT(blob, !Contains("incomplete"));
}

}  // namespace

TEST_CASE("download_model fetches what a model needs, from hubs and mirrors of several habits", "[io]") {
  for (const std::string behaviour : {"fine", "relative", "mirror", "busy", "expired", "hostile"}) {
    CAPTURE(behaviour);
    Fetch fetch;
    std::vector<ip2p::DownloadProgress> seen;
    fetch.options.on_progress = [&](const ip2p::DownloadProgress& progress) { seen.push_back(progress); };
    const auto snapshot = fetch.from(behaviour)();
    check_whole(fetch, snapshot);
    CHECK(fetch.count("not needed") == 0);
    for (const char* copy : {".bin", "fp16", "22000", "README", "safety_checker", "evil"})
      CHECK(fetch.count(copy) == 0);
    CHECK(ip2p::ModelFiles::open(editor).path() == snapshot);

    REQUIRE(!seen.empty());
    std::uint64_t bytes = 0, before = 0;
    for (const auto& file : tiny_files) bytes += fs::file_size(hub().model() / file);
    for (const auto& progress : seen) {
      CHECK(progress.done >= before);
      before = progress.done;
      CHECK(progress.total == bytes);
      CHECK(progress.count == tiny_files.size());
    }
    CHECK(seen.back().done == bytes);
    CHECK(seen.back().kept == 0);

    // What is there is not asked for again.
    const auto requests = fetch.log().size();
    CHECK(fetch() == snapshot);
    CHECK(fetch.log().size() == requests);
  }
}

TEST_CASE("Contents have the names that the Hub gives them, and are shared by revisions", "[io]") {
  Fetch fetch;
  const auto snapshot = fetch.from("fine")();
  const auto blob = [&](const std::string& file) { return fs::read_symlink(snapshot / file).filename().string(); };
  CHECK(blob(unet_weights).size() == 64);
  CHECK(blob("unet/config.json").size() == 40);
  const auto requests = fetch.count("store GET");
  CHECK(fetch(editor + "@refs/pr/4") == snapshot);
  CHECK(slurp(fetch.folder() / "refs/refs/pr/4") == hub_commit);
  CHECK(fetch(editor + "@" + hub_commit) == snapshot);
  CHECK(fetch.count("store GET") == requests);
  // A link that was lost is made again, without a transfer.
  fs::remove(snapshot / unet_weights);
  CHECK(fetch() == snapshot);
  CHECK(slurp(snapshot / unet_weights) == slurp(hub().model() / unet_weights));
  CHECK(fetch.count("store GET") == requests);
}

TEST_CASE("A part, a variant or a component can be fetched alone, and the rest later", "[io]") {
  Fetch fetch;
  fetch.options.files.components = {"vae"};
  const auto snapshot = fetch.from("fine")();
  CHECK(files_below(snapshot) ==
        std::set<std::string>{"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"});
  fetch.options.files.components = {};
  CHECK(fetch() == snapshot);
  check_whole(fetch, snapshot);
  CHECK(fetch.count("store GET " + editor + "/vae") == 1);
  CHECK(fetch("someone/a-vae") == fetch.folder("someone/a-vae") / "snapshots" / hub_commit);
  CHECK(ip2p::ModelFiles::open("someone/a-vae").has("vae"));

  Fetch other;
  CHECK(other.from("fine")(editor + "/vae") == other.folder() / "snapshots" / hub_commit / "vae");
  CHECK(files_below(other.folder() / "snapshots").size() == 2);
  other.options.files.variant = "fp16";
  CHECK(other.error() ==
        "cannot fetch the model 'someone/an-editor': it lacks fp16 weights in 'vae/', where only plain "
        "ones are");
  other.options.files.variant = {};
  CHECK(other.error("someone/a-file") ==
        "cannot fetch the model 'someone/a-file': it lacks model_index.json and config.json; of its single files, name "
        "one after the model's name, as in '/model.safetensors'");
  CHECK(slurp(other("someone/a-file/model.safetensors")) == "one file");
}

TEST_CASE("A broken transfer goes on where it stopped", "[io]") {
  for (const std::string behaviour : {"cut", "stalls", "no_ranges", "other_range", "damaged_once"}) {
    CAPTURE(behaviour);
    Fetch fetch;
    fetch.options.stall_seconds = 1;
    if (behaviour == "stalls") fetch.options.files.components = {"vae"};  // each file takes seconds
    const auto snapshot = fetch.from(behaviour)();
    if (behaviour != "stalls") check_whole(fetch, snapshot);
    CHECK(slurp(snapshot / "vae/diffusion_pytorch_model.safetensors") ==
          slurp(hub().model() / "vae/diffusion_pytorch_model.safetensors"));
    const auto weights = "store GET " + editor + "/vae/diffusion_pytorch_model.safetensors";
    if (behaviour == "cut") {
      CHECK(fetch.count(weights) == 3);
      CHECK(fetch.count(weights + " bytes=1000-") == 1);
      CHECK(fetch.count(weights + " bytes=2000-") == 1);
    }
    if (behaviour == "damaged_once") CHECK(fetch.count(weights) == 2);
  }
}

TEST_CASE("The next run goes on with what a broken one has left", "[io]") {
  Fetch fetch;
  fetch.options.files.components = {"unet"};
  CHECK_THAT(
      fetch.from("always_cut").error(),
      Contains("cannot fetch the model 'someone/an-editor' at 'unet/diffusion_pytorch_model.safetensors': gave up "
               "after 5 tries (127.0.0.1:") &&
          Contains("what has come is kept for the next run"));
  const auto blobs = fetch.folder() / "blobs";
  std::set<std::string> incomplete;
  for (const auto& name : files_below(blobs)) {
    if (name.ends_with(".incomplete")) incomplete.insert(name);
  }
  REQUIRE(incomplete.size() == 1);
  CHECK(fs::file_size(blobs / *incomplete.begin()) == 1000);
  CHECK_FALSE(fs::exists(fetch.folder() / "refs/main"));  // a revision has its name when all of it is there

  ip2p::DownloadProgress last;
  fetch.options.on_progress = [&](const ip2p::DownloadProgress& progress) { last = progress; };
  const auto snapshot = fetch.from("fine")();
  CHECK(slurp(snapshot / unet_weights) == slurp(hub().model() / unet_weights));
  CHECK(fetch.count("store GET " + editor + "/" + unet_weights + " bytes=1000-") == 1);
  CHECK(last.kept == 1000);
  CHECK(last.done == last.total);

  // What another program left may be anything, even longer than the file.
  for (const auto& left : {std::string(2000, 'x'), std::string(2000000, 'x'), std::string()}) {
    fs::remove_all(fetch.folder() / "snapshots");
    fs::rename(blobs / fs::path(*incomplete.begin()).stem(), blobs / *incomplete.begin());
    spill(blobs / *incomplete.begin(), left);
    CHECK(fetch() == snapshot);
    CHECK(slurp(snapshot / unet_weights) == slurp(hub().model() / unet_weights));
  }
}

TEST_CASE("Damaged files do not come into the cache", "[io]") {
  Fetch fetch;
  fetch.options.files.components = {"vae"};
  CHECK_THAT(fetch.from("damaged").error(),
             Contains("'vae/diffusion_pytorch_model.safetensors' came damaged twice: expected the SHA-256 ") &&
                 Contains(", found "));
  CHECK_THAT(fetch.from("longer").error(),
             Contains("came damaged twice: expected 249134 bytes") && Contains("found more"));
  CHECK_THAT(fetch.from("shorter").error(), Contains("gave up after 5 tries (the transfer ended early)"));
  for (const auto& name : files_below(fetch.folder() / "blobs")) {
    CHECK((name.size() == 40 || name.ends_with(".incomplete")));
  }
  CHECK_FALSE(fs::exists(fetch.folder() / "snapshots" / hub_commit / "vae/diffusion_pytorch_model.safetensors"));
}

TEST_CASE("What the Hub refuses is said in a sentence, without the token", "[io]") {
  const std::string prefix = "cannot fetch the model 'someone/an-editor': ";
  const auto host = fmt::format("127.0.0.1:{}", hub().port());
  Fetch fetch;
  const auto says = [&](const std::string& behaviour, const std::string& name = editor) {
    return fetch.from(behaviour).error(name);
  };
  fetch.options.token = "";
  CHECK(says("private") ==
        prefix + host + " has no model of this name, or a private one (HTTP 401; no token was sent: set HF_TOKEN)");
  const auto gated = says("gated");
  CHECK(gated == prefix + "it is gated: accept its conditions at " + fetch.options.endpoint +
                     "/someone/an-editor and give the token of that account (no token was sent: set HF_TOKEN)");
  CHECK(says("fine", "someone/else") ==
        "cannot fetch the model 'someone/else': " + host +
            " has no model of this name, or a private one (HTTP 404; no token was sent: set HF_TOKEN)");
  CHECK(says("fine", editor + "@v7") == "cannot fetch the model 'someone/an-editor@v7': it has no revision 'v7'");
  CHECK(says("no_file") == prefix + "it has no file 'vae/config.json'");
  CHECK(says("fine", editor + "/prior") ==
        "cannot fetch the model 'someone/an-editor/prior': it lacks model_index.json and config.json");
  CHECK(says("not_a_hub") ==
        prefix + host + " does not answer as the Hugging Face Hub does; check HF_ENDPOINT and the proxy");
  CHECK(says("loop") == prefix + host + ": redirects without an end");
  CHECK(says("elsewhere") == prefix + host + ": redirects to something that is not on the web");
  CHECK(says("down") ==
        prefix + "gave up after 5 tries (" + host + " answered HTTP 500); what has come is kept for the next run");
  CHECK_THAT(says("hostile_etag"),
             Contains(prefix + "expected a name for the contents of '") && Contains("(ETag), found '../../../evil'"));
  CHECK_THAT(says("huge"), Contains(" are to come, and '" + fetch.cache.path().string() + "' has room for "));

  fetch.options.token = "hf_other";
  CHECK(says("bad_token") == prefix + "the token in the options was not accepted (HTTP 401)");
  CHECK(says("forbidden") == prefix + host +
                                 " answered HTTP 403: Your account is blocked, Bearer [token] (the token in " +
                                 "the options was sent)");
  CHECK_THAT(says("gated"), Contains("it is gated") && Contains("(the token in the options was sent)"));
  CHECK_THAT(says("token_etag"), Contains("(ETag), found 'Bearer [token]'"));
  CHECK_THAT(says("token_name"), Contains("it lacks") && !Contains("hf_other"));
  fetch.options.token = "token";  // part of what would stand for it, and of messages
  CHECK(says("bad_token") == prefix + "the token in the options was not accepted (HTTP 401)");
  CHECK_THAT(says("token_etag"), Contains("(ETag), found 'Bearer token'"));
  fetch.options.token = "two words";
  CHECK_THAT(says("fine"), Contains("expected a token of printable characters in the options, found others"));
  fetch.options.token = "";

  fetch.options.endpoint = "http://127.0.0.1:1";
  CHECK_THAT(fetch.error(), Contains(prefix + "no answer from 127.0.0.1:1: ") && Contains("check the network"));
  fetch.options.endpoint = "ftp://huggingface.co";
  CHECK_THAT(fetch.error(), Contains("HF_ENDPOINT: expected an address"));
  CHECK(fs::is_empty(fetch.folder() / "blobs"));
}

TEST_CASE("The token goes to the Hub alone, wherever it comes from", "[io]") {
  const auto with = [](const Environment::Values& values, const std::string& given = {}) {
    Fetch fetch;
    spill(fetch.cache / "home/token", "hf_secret\n");
    spill(fetch.cache / "elsewhere", "hf_secret");
    auto filled = values;
    if (filled.contains("HF_TOKEN_PATH")) filled["HF_TOKEN_PATH"] = (fetch.cache / "elsewhere").string();
    const Environment set(filled);
    if (!given.empty()) fetch.options.token = given;
    static_cast<void>(fetch.from("private")());  // answers with the token only
    const auto all = fetch.log();
    CHECK(fetch.count("store GET") == 3);
    for (const auto& line : all) {
      CAPTURE(line);
      CHECK((line.find("hf_secret") != line.npos) == line.starts_with("hub"));
    }
  };
  with({});  // the file of `hf auth login`
  with({{"HF_TOKEN", " hf_secret\n"}});
  with({{"HUGGING_FACE_HUB_TOKEN", "hf_secret"}});
  with({{"HF_TOKEN_PATH", ""}});
  with({{"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}}, "hf_secret");

  Fetch fetch;
  const Environment disabled({{"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}, {"HF_TOKEN", "hf_secret"}});
  CHECK_THAT(fetch.from("private").error(), Contains("no token was sent"));
}

TEST_CASE("Proxies are used, and a token does not travel unencrypted to another machine", "[io]") {
  Fetch fetch;
  const Environment proxy({{"http_proxy", fmt::format("http://127.0.0.1:{}", hub().port())},
                           {"no_proxy", "127.0.0.1"},
                           {"HF_TOKEN", "hf_secret"}});
  fetch.from("fine");
  fetch.options.endpoint = "http://hub.invalid/fine/" + fetch.run;
  check_whole(fetch, fetch());
  CHECK(fetch.count("hf_secret") == 0);
  CHECK(fetch.count("hub GET") > 0);
  fetch.from("private");
  fetch.options.endpoint = "http://hub.invalid/private/" + fetch.run;
  CHECK_THAT(fetch.error(editor + "@refs/pr/4"),
             Contains("a token was not sent, because the endpoint has no encryption"));
}

TEST_CASE("Several processes fetch each file once", "[io]") {
  Fetch fetch;
  fetch.from("slow");
  std::vector<std::thread> threads;
  std::vector<std::string> errors(3);
  std::atomic<int> waited{0};
  fetch.options.tell = [&](const std::string& text) { waited += text.starts_with("waiting for another process"); };
  for (auto& error : errors) threads.emplace_back([&] { error = fetch.error(); });
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) CHECK(error == "no error");
  CHECK(waited > 0);
  check_whole(fetch, fetch());
  CHECK(fetch.count("store GET") == 3);
}

TEST_CASE("A download that is killed goes on in the next run", "[io]") {
  Fetch fetch;
  fetch.from("slow");
  const auto child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    fetch.options.on_progress = [](const ip2p::DownloadProgress& progress) {
      if (progress.file == unet_weights && progress.done > progress.total / 2) raise(SIGKILL);
    };
    static_cast<void>(fetch.error());
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  CHECK_FALSE(fs::exists(fetch.folder() / "refs/main"));
  ip2p::DownloadProgress last;
  fetch.options.on_progress = [&](const ip2p::DownloadProgress& progress) { last = progress; };
  check_whole(fetch, fetch());
  CHECK(last.kept > 0);
  CHECK(fetch.count("store GET " + editor + "/" + unet_weights + " bytes=") == 1);
}

TEST_CASE("A download stops on request, and keeps what has come", "[io]") {
  Fetch fetch;
  std::stop_source stop;
  fetch.options.cancel = stop.get_token();
  fetch.options.on_progress = [&](const ip2p::DownloadProgress& progress) {
    if (progress.file == unet_weights && progress.done > progress.total / 2) stop.request_stop();
  };
  fetch.from("slow");
  CHECK_THROWS_AS(fetch(), ip2p::Cancelled);
  fetch.options.cancel = {};
  fetch.options.on_progress = {};
  check_whole(fetch, fetch());
  CHECK(fetch.count("store GET " + editor + "/" + unet_weights + " bytes=") == 1);
}

TEST_CASE("A disk that takes no more is named, and what has come is kept", "[io]") {
  Fetch fetch;
  fetch.from("fine");
  const auto child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200000, 200000};
    setrlimit(RLIMIT_FSIZE, &limit);
    spill(fetch.cache / "message", fetch.error());
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  CHECK_THAT(
      slurp(fetch.cache / "message"),
      Contains("cannot write '" + (fetch.folder() / "blobs").string()) && Contains("File too large; ") &&
          Contains(" of 'unet/diffusion_pytorch_model.safetensors' are still to come, and what has come is kept"));
  check_whole(fetch, fetch());
  CHECK(fetch.count("store GET " + editor + "/" + unet_weights + " bytes=200000-") == 1);
}

TEST_CASE("Without the network, the cache has to suffice", "[io]") {
  Fetch fetch;
  fetch.from("fine");
  const Environment offline(Environment::Values{{"HF_HUB_OFFLINE", "yes"}});
  CHECK(fetch.error() ==
        fmt::format("cannot fetch the model 'someone/an-editor': HF_HUB_OFFLINE forbids the network; the "
                    "cache '{}' lacks the model",
                    fetch.cache.path().string()));
  const auto snapshot = ip2p::testing::add_to_cache(fetch.folder(), hub().model(), hub_commit);
  CHECK(fetch() == snapshot);
  fs::remove(snapshot / "vae/diffusion_pytorch_model.safetensors");
  CHECK_THAT(fetch.error(),
             Contains("HF_HUB_OFFLINE forbids the network; the cache") && Contains("lacks weights in 'vae/'"));
  fs::remove_all(snapshot / "tokenizer");
  fs::remove_all(snapshot / "vae");
  CHECK_THAT(fetch.error(), Contains("lacks the folder 'vae'"));
  CHECK(fetch.log().empty());
  // A path is no name; nothing is asked for.
  CHECK(fetch(hub().model().string()) == hub().model());
  CHECK_THAT(fetch.error("./nowhere"), Contains("there is no such file or folder"));
}

#endif
