#include <ATen/ops/full.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;
using ip2p::testing::ScratchDir;
namespace fs = std::filesystem;

namespace {

/// While this lives, no file grows beyond `bytes`; a write beyond that is an error, as on a full disk.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

/// One weight of 16 KiB that falls towards 0.
struct SmallRun {
  at::Tensor weight = at::full({4096}, 2.0).set_requires_grad(true);

  auto run(const fs::path& folder, bool asynchronous = true, const std::string& name = "weight") const {
    TrainingOptions options;
    options.folder = folder;
    options.checkpoint_every = 2;
    options.keep = 3;
    options.asynchronous = asynchronous;
    return Trainer(Parameters{{name}, {weight}}, *this, ConstantRate{0.1}, options);
  }

  at::Tensor operator()(std::int64_t) const { return weight.square().sum(); }
};

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void spill(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// Names in a folder, sorted.
std::vector<std::string> names(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

using Names = std::vector<std::string>;
using Steps = std::vector<std::int64_t>;

Checkpoint numbered(std::int64_t step) {
  return {step, {{"weights/a", at::full({5}, static_cast<double>(step))}}, {{"ema_updates", step}, {"seconds", 0.5}}};
}

}  // namespace

TEST_CASE("A run whose disk is full stops with a message and continues when there is room again", "[train]") {
  const bool asynchronous = GENERATE(false, true);
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch / "run");
  const SmallRun small;
  auto run = small.run(scratch / "run", asynchronous);
  run.run(2);
  {
    const FileLimit limit(20'000);
    CHECK_THROWS_WITH(run.run(100), Contains("cannot write checkpoint '" + (scratch / "run/step_4").string()) &&
                                        Contains("tensors.safetensors': write failed: File too large"));
  }
  CHECK(run.step() < 100);
  if (!asynchronous) CHECK(run.step() == 4);
  CHECK(names(scratch / "run") == Names{"loss.csv", "step_2"});
  CHECK(folder.load_newest()->step == 2);

  const auto next = run.step() - run.step() % 2 + 2;
  CHECK(run.run(next));
  CHECK(folder.steps() == Steps{2, next});
  CHECK(folder.load_newest()->tensors.at("weights/weight").equal(small.weight));
  CHECK(LossCurve::read(scratch / "run/loss.csv").size() == static_cast<std::size_t>(next));
}

TEST_CASE("A checkpoint that is written at the end of a run fails there, not later", "[train]") {
  const ScratchDir scratch;
  const SmallRun small;
  auto run = small.run(scratch / "run");
  {
    const FileLimit limit(20'000);
    CHECK_THROWS_WITH(run.run(2), Contains("step_2") && Contains("File too large"));
    CHECK_NOTHROW(run.finish_saving());
    CHECK(CheckpointFolder(scratch / "run").steps().empty());
  }
  CHECK(run.run(2));  // only what failed is left to do
  CHECK(CheckpointFolder(scratch / "run").steps() == Steps{2});
}

TEST_CASE("A loss curve that cannot grow is an error, and is complete again once it can", "[train]") {
  const ScratchDir scratch;
  LossCurve curve(scratch / "loss.csv");
  curve.add({1, 0.5, 1e-3, 0.1});
  curve.flush();
  const auto bytes = fs::file_size(scratch / "loss.csv");
  curve.add({2, 0.25, 1e-3, 0.2});
  {
    const FileLimit limit(bytes + 5);
    CHECK_THROWS_WITH(curve.flush(), Contains("cannot write '" + (scratch / "loss.csv").string() + "'"));
  }
  CHECK(LossCurve::read(scratch / "loss.csv").size() == 1);
  curve.flush();
  CHECK(LossCurve::read(scratch / "loss.csv").size() == 2);
}

TEST_CASE("An error about a folder that cannot be created or written names it", "[train]") {
  const ScratchDir scratch;
  const SmallRun small;
  spill(scratch / "file", "x");
  CHECK_THROWS_WITH(small.run(scratch / "file/run").run(2),
                    Contains("cannot write '" + (scratch / "file/run/loss.csv").string() + "': Not a directory"));
  CHECK_THROWS_WITH(
      CheckpointFolder(scratch / "file/run").save(numbered(1)),
      Contains("cannot write checkpoint '" + (scratch / "file/run/step_1").string()) && Contains("Not a directory"));
  CHECK_THROWS_WITH(CheckpointFolder(scratch / "file").load_newest(),
                    Contains("cannot list '" + (scratch / "file").string()));
  CHECK_THROWS_WITH(small.run(scratch / "file").resume(), Contains("cannot list"));
  if (geteuid() == 0) {
    WARN("skipped: a folder without permission to write, which does not stop root");
    return;
  }
  const CheckpointFolder folder(scratch / "run");
  folder.save(numbered(1));
  fs::permissions(scratch / "run", fs::perms::owner_read | fs::perms::owner_exec);
  CHECK_THROWS_WITH(folder.save(numbered(2)), Contains("step_2") && Contains("Permission denied"));
  CHECK(folder.load_newest()->step == 1);
  fs::permissions(scratch / "run", fs::perms::none);
  CHECK_THROWS_WITH(folder.load_newest(), Contains("cannot list") && Contains("Permission denied"));
  fs::permissions(scratch / "run", fs::perms::owner_all);
}

TEST_CASE("A checkpoint that was shortened anywhere does not verify", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  folder.save(numbered(1));
  for (const auto* name : {"tensors.safetensors", "manifest.json"}) {
    const auto path = scratch / "step_1" / name;
    const auto bytes = content(path);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      spill(path, bytes.substr(0, length));
      INFO(name << " of " << length << " bytes");
      CHECK_THROWS_WITH(CheckpointFolder::load(scratch / "step_1"), Contains(std::string(name)));
    }
    fs::remove(path);
    CHECK_THROWS_WITH(CheckpointFolder::load(scratch / "step_1"), Contains(std::string("no ") + name));
    spill(path, bytes);
  }
  CHECK(CheckpointFolder::load(scratch / "step_1").step == 1);
}

TEST_CASE("A checkpoint with any bit flipped does not verify, or means the same", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  folder.save(numbered(7));
  int refused = 0, same = 0;
  for (const auto* name : {"tensors.safetensors", "manifest.json"}) {
    const auto path = scratch / "step_7" / name;
    const auto bytes = content(path);
    for (std::size_t i = 0; i < 8 * bytes.size(); ++i) {
      auto flipped = bytes;
      flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << (i % 8)));
      spill(path, flipped);
      try {
        const auto found = CheckpointFolder::load(scratch / "step_7");
        INFO(name << ", bit " << i);
        CHECK((found.step == 7 && found.state == numbered(7).state));
        CHECK(found.tensors.at("weights/a").equal(numbered(7).tensors.at("weights/a")));
        ++same;
      } catch (const Error& error) {
        ++refused;
      }
    }
    spill(path, bytes);
  }
  CHECK(refused > 2500);
  CHECK(same < 20);  // one white space of the manifest became another
}

TEST_CASE("A checkpoint of a later format is refused with its number", "[train]") {
  const ScratchDir scratch;
  CheckpointFolder(scratch.path()).save(numbered(1));
  const auto path = scratch / "step_1/manifest.json";
  auto manifest = nlohmann::json::parse(content(path));
  manifest["version"] = 2;
  spill(path, manifest.dump());
  CHECK_THROWS_WITH(CheckpointFolder::load(scratch / "step_1"), Contains("manifest.json: expected version 1, found 2"));
}

TEST_CASE("A run does not start over if there are checkpoints but none verifies", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  folder.save(numbered(1));
  folder.save(numbered(2));
  fs::remove(scratch / "step_1/manifest.json");
  fs::resize_file(scratch / "step_2/tensors.safetensors", 10);
  const SmallRun small;
  auto run = small.run(scratch.path());
  std::vector<std::string> skipped;
  CHECK_THROWS_WITH(run.resume(&skipped), Contains("expected one that verifies, found none among 2; move them away") &&
                                              Contains("step_1': no manifest.json") &&
                                              Contains("step_2': tensors.safetensors: expected"));
  CHECK(skipped.size() == 2);
  CHECK(folder.steps() == Steps{1, 2});
  fs::remove_all(scratch / "step_1");
  fs::remove_all(scratch / "step_2");
  CHECK_FALSE(run.resume());
}

TEST_CASE("Damaged checkpoints are set aside when a run continues from the one before", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path(), 3);
  const SmallRun small;
  small.run(scratch.path()).run(6);
  fs::remove(scratch / "step_6/manifest.json");
  fs::resize_file(scratch / "step_4/tensors.safetensors", 10);
  fs::create_directory(scratch / "step_4.damaged");

  auto run = small.run(scratch.path());
  std::vector<std::string> skipped;
  REQUIRE(run.resume(&skipped));
  CHECK(run.step() == 2);
  REQUIRE(skipped.size() == 2);
  CHECK_THAT(skipped[0], Contains("step_6': no manifest.json"));
  CHECK_THAT(skipped[1], Contains("step_4': tensors.safetensors: expected"));
  CHECK(names(scratch.path()) == Names{"loss.csv", "step_2", "step_4.damaged", "step_6.damaged"});
  CHECK(fs::file_size(scratch / "step_4.damaged/tensors.safetensors") == 10);
  CHECK(LossCurve::read(scratch / "loss.csv").size() == 2);
  run.run(6);
  CHECK(folder.steps() == Steps{2, 4, 6});
  CHECK(folder.load_newest()->step == 6);
}

TEST_CASE("A run that was not resumed does not mix its checkpoints with those of another", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  const SmallRun small;
  folder.save(numbered(10));
  CHECK_THROWS_WITH(small.run(scratch.path()).run(4),
                    Contains("step_2': expected no later one in the folder, found step_10; resume from it, or choose"));
  CHECK(folder.steps() == Steps{10});
  CHECK(folder.load_newest()->step == 10);
}

TEST_CASE("The next checkpoint removes what killed writers left behind", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path());
  for (const auto* name : {"step_3.tmp", "step_8.tmp", "step_x.tmp", "other.tmp"}) {
    fs::create_directories(scratch / name);
    spill(scratch / name / ".tensors.safetensors.0123.tmp", "half");
  }
  folder.save(numbered(4));
  CHECK(names(scratch.path()) == Names{"other.tmp", "step_4", "step_x.tmp"});
}

TEST_CASE("Rewriting a loss curve removes what a killed process left beside it", "[train]") {
  const ScratchDir scratch;
  for (const auto* name :
       {".loss.csv.0123456789abcdef.tmp", ".other.csv.0123456789abcdef.tmp", ".loss.csv.short.tmp"}) {
    spill(scratch / name, "half");
  }
  LossCurve curve(scratch / "loss.csv");
  curve.add({.step = 1, .loss = 0.5, .rate = 0.1, .seconds = 1});
  curve.truncate(0);
  CHECK(names(scratch.path()) == Names{".loss.csv.short.tmp", ".other.csv.0123456789abcdef.tmp", "loss.csv"});
}

TEST_CASE("A checkpoint is replaced by another of the same step in a single operation", "[train]") {
  const ScratchDir scratch;
  const CheckpointFolder folder(scratch.path(), 1);
  folder.save(numbered(4));
  auto other = numbered(4);
  other.tensors["weights/a"] = at::full({5}, 9.0);
  folder.save(other);
  CHECK(folder.load_newest()->tensors.at("weights/a").equal(at::full({5}, 9.0)));
  CHECK(names(scratch.path()) == Names{"step_4"});
}

TEST_CASE("A checkpoint of another model is refused, naming the tensor that differs, and changes nothing", "[train]") {
  const ScratchDir scratch;
  const SmallRun small;
  small.run(scratch.path()).run(2);
  const auto weight = at::full({4096}, 3.0).set_requires_grad(true);
  const auto refused = [&](Parameters parameters, const std::string& words) {
    TrainingOptions options;
    options.folder = scratch.path();
    Trainer run(std::move(parameters), small, ConstantRate{0.1}, options);
    CHECK_THROWS_WITH(run.resume(), Contains(words));
    CHECK(run.step() == 0);
    CHECK(weight.equal(at::full({4096}, 3.0)));
  };
  refused({{"other"}, {weight}}, "checkpoint of step 2: no tensor 'weights/other'");
  refused({{"weight", "more"}, {weight, at::full({1}, 1.0).set_requires_grad(true)}},
          "checkpoint of step 2: no tensor 'weights/more'");
  const auto narrow = at::full({5}, 3.0).set_requires_grad(true);
  refused({{"weight"}, {narrow}}, "tensor 'weights/weight': expected [5], found [4096]");

  auto two = at::full({2}, 1.0).set_requires_grad(true);
  TrainingOptions options;
  options.folder = scratch / "two";
  Trainer(Parameters{{"weight", "two"}, {weight, two}}, small, ConstantRate{0.1}, options).save();
  fs::remove_all(scratch / "step_2");
  fs::rename(scratch / "two/step_0", scratch / "step_0");
  refused({{"weight"}, {weight}}, "checkpoint of step 0: expected 5 tensors, found 10");
  CHECK(CheckpointFolder(scratch.path()).steps() == Steps{0});
}

TEST_CASE("A checkpoint without the run's counters is refused before anything is changed", "[train]") {
  const ScratchDir scratch;
  const SmallRun small;
  auto run = small.run(scratch.path());
  auto checkpoint = run.snapshot();
  for (auto& [name, tensor] : checkpoint.tensors) tensor = tensor.clone().zero_();
  checkpoint.state.erase("ema_updates");
  CHECK_THROWS_WITH(run.restore(checkpoint), Contains("checkpoint of step 0") && Contains("ema_updates"));
  CHECK(small.weight.equal(at::full({4096}, 2.0)));
}

TEST_CASE("A loss curve that was cut off is read up to its last complete line, and continued", "[train]") {
  const ScratchDir scratch;
  {
    LossCurve curve(scratch / "whole.csv");
    for (std::int64_t i = 1; i <= 3; ++i) curve.add({i, 0.5, 1e-3, 0.1});
    curve.flush();
  }
  const auto bytes = content(scratch / "whole.csv");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    INFO(length << " bytes");
    spill(scratch / "cut.csv", bytes.substr(0, length));
    LossCurve curve(scratch / "cut.csv");
    const auto lines = std::count(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length), '\n');
    REQUIRE(static_cast<std::ptrdiff_t>(curve.points().size()) == std::max<std::ptrdiff_t>(lines - 1, 0));
    for (std::int64_t i = std::max<std::int64_t>(lines, 1); i <= 3; ++i) curve.add({i, 0.5, 1e-3, 0.1});
    curve.flush();
    CHECK(content(scratch / "cut.csv") == bytes);
  }
  spill(scratch / "cut.csv", "something else");
  CHECK_THROWS_WITH(LossCurve(scratch / "cut.csv"), Contains("expected the header of a loss curve, found 'something"));
}
