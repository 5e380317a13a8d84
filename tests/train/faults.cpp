// Training under faults: kills, signals, failing system calls. The model is a small network whose batches and noise
// depend only on (seed, step).
//
//   faults killed KILLS SEED      a run killed that often, at random moments, ends with the same bits as another
//   faults calls                  every system call of a checkpoint fails once, and the process dies in it once
//   faults train FOLDER STEPS     trains; SIGTERM saves and exits with status 0; an Error is printed, status 3
//   faults compare FOLDER FOLDER  whether two runs have the same bits
//
// Exit status 0: as expected; 1: not.

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tanh.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/interrupt.hpp"

// --- system calls that go wrong ---------------------------------------------------------------------------------

namespace {

enum class Fault { none, fails, dies, shortened, garbled };

/// The call that meets `fault`: the `countdown`-th from now (0 is the next), or every one if `always`.
struct Plan {
  Fault fault = Fault::none;
  int countdown = 0;
  int code = EIO;
  bool always = false;
  int calls = 0;
  std::string met{};  ///< Name of the call that met it.
} plan;

/// What becomes of this call.
Fault next(const char* name) {
  if (plan.fault == Fault::none) return Fault::none;
  ++plan.calls;
  if (!plan.always && plan.countdown-- != 0) return Fault::none;
  plan.met = name;
  if (plan.fault == Fault::dies) kill(getpid(), SIGKILL);
  errno = plan.code;
  return plan.fault;
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  if (descriptor > 2) {
    switch (next("write")) {
      case Fault::fails:
        return -1;
      case Fault::shortened:
        size = (size + 1) / 2;
        break;
      case Fault::garbled: {
        std::string other(static_cast<const char*>(data), size);
        other[size / 2] = static_cast<char>(other[size / 2] ^ 1);
        return syscall(SYS_write, descriptor, other.data(), size);
      }
      default:
        break;
    }
  }
  return syscall(SYS_write, descriptor, data, size);
}

int fsync(int descriptor) {
  return next("fsync") == Fault::fails ? -1 : static_cast<int>(syscall(SYS_fsync, descriptor));
}

int rename(const char* from, const char* to) noexcept {
  return next("rename") == Fault::fails ? -1
                                        : static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  return next("renameat2") == Fault::fails
             ? -1
             : static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}

int mkdir(const char* path, mode_t mode) noexcept {
  return next("mkdir") == Fault::fails ? -1 : static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return next("unlinkat") == Fault::fails ? -1 : static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
}

int unlink(const char* path) noexcept {
  return next("unlink") == Fault::fails ? -1 : static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

}  // extern "C"

using namespace ip2p;

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// --- the run -----------------------------------------------------------------------------------------------------

/// Two layers that learn to predict noise; 33 k weights.
struct Network {
  Parameters parameters{{"in", "out"},
                        {CounterNoise(1).normal({64, 256}, 0).mul_(0.1).set_requires_grad(true),
                         CounterNoise(2).normal({256, 64}, 0).mul_(0.1).set_requires_grad(true)}};

  at::Tensor operator()(std::int64_t step) const {
    const auto clean = CounterNoise(3).normal({8, 64}, step % 50);
    const auto noise = CounterNoise(4).normal({8, 64}, step);
    const auto hidden = at::tanh(at::matmul(clean + noise, parameters.tensors[0]));
    return (at::matmul(hidden, parameters.tensors[1]) - noise).square().mean();
  }
};

using Run = Trainer<Network, WarmupCosine>;

Run begin(const Network& network, const fs::path& folder, bool asynchronous, std::int64_t checkpoint_every) {
  TrainingOptions options;
  options.folder = folder;
  options.checkpoint_every = checkpoint_every;
  options.asynchronous = asynchronous;
  options.clip_norm = 1.0;
  return Run(network.parameters, network, WarmupCosine{1e-3, 20, 5000, 0.1}, options);
}

/// Trains until `steps` updates are made; returns how many were made in all.
std::int64_t train(const fs::path& folder, std::int64_t steps, bool asynchronous, std::int64_t checkpoint_every,
                   const std::function<void(const TrainingProgress&)>& on_step = {}, std::stop_token stop = {}) {
  at::set_num_threads(1);
  const Network network;
  auto run = begin(network, folder, asynchronous, checkpoint_every);
  std::vector<std::string> skipped;
  run.resume(&skipped);
  require(skipped.empty(), "expected no checkpoint that does not verify, found: {}", skipped.empty() ? "" : skipped[0]);
  run.run(steps, on_step, stop);
  return run.step();
}

/// Throws unless both checkpoints hold the same bits.
void require_same(const Checkpoint& a, const Checkpoint& b) {
  require(a.step == b.step && a.tensors.size() == b.tensors.size() && a.state["ema_updates"] == b.state["ema_updates"],
          "expected step {} with {} tensors, found step {} with {}", a.step, a.tensors.size(), b.step,
          b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    require(at::equal(tensor, b.tensors.at(name)), "{}: expected the same bits", name);
  }
}

/// Throws unless two folders hold the same run: last checkpoint and every loss.
std::int64_t require_same_run(const fs::path& one, const fs::path& other) {
  const auto a = CheckpointFolder(one).load_newest(), b = CheckpointFolder(other).load_newest();
  require(a && b, "expected checkpoints in {} and {}", one.string(), other.string());
  require_same(*a, *b);
  const auto losses = LossCurve::read(one / "loss.csv"), others = LossCurve::read(other / "loss.csv");
  require(losses.size() == static_cast<std::size_t>(a->step) && others.size() == losses.size(),
          "expected {} losses, found {} and {}", a->step, losses.size(), others.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    require(losses[i].step == others[i].step && losses[i].loss == others[i].loss,
            "loss of step {}: expected {}, found {}", i + 1, losses[i].loss, others[i].loss);
  }
  return a->step;
}

/// Throws unless everything under a checkpoint's name verifies; returns the newest step, or 0 if there is none.
std::int64_t require_sound(const fs::path& folder) {
  std::int64_t newest = 0;
  for (const auto step : CheckpointFolder(folder).steps()) {
    require(CheckpointFolder::load(folder / fmt::format("step_{}", step)).step == step, "expected step {}", step);
    newest = step;
  }
  return newest;
}

bool has_unfinished(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".tmp") return true;
  }
  return false;
}

/// A folder for this process, removed with the value.
struct Scratch {
  Scratch() : path(fs::temp_directory_path() / fmt::format("ip2p-faults-{}", getpid())) {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

/// Forks a process for `work`, which has loaded LibTorch and done nothing with it. Returns its id.
template <class Work>
pid_t in_a_process(Work&& work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  require(child >= 0, "cannot fork");
  if (child > 0) return child;
  int status = 0;
  try {
    work();
  } catch (const std::exception& error) {
    std::puts(error.what());
    std::fflush(stdout);
    status = 1;
  }
  _exit(status);
}

/// Waits; returns true if the process was killed and false if it exited with status 0. Throws otherwise.
bool was_killed(pid_t child) {
  int status = 0;
  require(waitpid(child, &status, 0) == child, "cannot wait for the process");
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0,
          "expected a process that is killed or ends well, found status {}", status);
  return false;
}

// --- scenarios ---------------------------------------------------------------------------------------------------

/// Each process lives only long enough for a few checkpoints, and no end is set before the last kill, because how much
/// work that is depends on the machine.
int killed(int kills, std::uint64_t seed) {
  const Scratch scratch;
  const auto folder = scratch.path / "killed";
  constexpr std::int64_t endless = 1'000'000, every = 2;
  const auto start = Clock::now();
  require(!was_killed(in_a_process([&] { train(scratch.path / "measured", 20, true, every); })), "expected to end");
  const double cycle = std::chrono::duration<double>(Clock::now() - start).count() / 10;
  const double longest = std::clamp(5 * cycle, 0.01, 0.25);

  std::mt19937_64 random(seed);
  int in_writing = 0, without_progress = 0, at_start = 0;
  std::int64_t newest = 0;
  for (int count = 0; count < kills; ++count) {
    int line[2];
    require(pipe(line) == 0, "cannot make a pipe");
    const auto child = in_a_process([&] {
      [[maybe_unused]] const auto told = write(line[1], "b", 1);
      train(folder, endless, count % 2 == 0, every);
    });
    char begun = 0;
    close(line[1]);
    require(read(line[0], &begun, 1) == 1, "expected the process to begin");
    close(line[0]);
    std::this_thread::sleep_for(std::chrono::duration<double>(std::uniform_real_distribution<>(0, longest)(random)));
    kill(child, SIGKILL);
    require(was_killed(child), "expected a process that is at work until it is killed");
    in_writing += has_unfinished(folder);
    const auto step = require_sound(folder);
    require(step >= newest, "expected checkpoints to stay, found step {} after step {}", step, newest);
    without_progress += step == newest;
    at_start += step == 0;
    newest = step;
  }
  require(in_writing >= kills / 10, "expected kills while a checkpoint is written, found {} of {}", in_writing, kills);
  require(newest >= kills / 10, "expected progress between kills, found {} updates", newest);

  const auto steps = newest + 10;
  require(!was_killed(in_a_process([&] { train(folder, steps, true, every); })), "expected to end");
  require(!was_killed(in_a_process([&] { train(scratch.path / "whole", steps, true, endless); })), "expected to end");
  require_same_run(scratch.path / "whole", folder);
  require(!has_unfinished(folder), "expected nothing unfinished in the end");
  std::puts(
      fmt::format("{} kills in {:.0f} s, {} of them while a checkpoint was written, {} before the first one, {} "
                  "without progress; {} updates with the weights, averages, moments and losses of a run that was not "
                  "killed, bit for bit",
                  kills, std::chrono::duration<double>(Clock::now() - start).count(), in_writing, at_start,
                  without_progress, steps)
          .c_str());
  return 0;
}

Checkpoint made(std::int64_t step, double value) {
  return {step,
          {{"weights/a", at::full({500, 3}, value)}, {"average/a", at::arange(30)}},
          {{"ema_updates", step}, {"value", value}}};
}

/// A folder with steps 1 and 2, a plan for the next save, and checks of what is found after it.
class Trial {
 public:
  Trial(const fs::path& folder, std::size_t keep) : path_(folder), folder_(folder, keep) {
    plan = {};
    fs::remove_all(folder);
    folder_.save(made(1, 1));
    folder_.save(made(2, 2));
  }

  /// Saves step `step` under `wanted`. \return the Error's message, or an empty one
  std::string save(std::int64_t step, Plan wanted) {
    plan = wanted;
    std::string words;
    try {
      folder_.save(made(step, 3));
    } catch (const Error& error) {
      words = error.what();
    }
    met_ = plan.met;
    calls_ = plan.calls;
    plan = {};
    return words;
  }

  [[nodiscard]] const std::string& met() const { return met_; }
  [[nodiscard]] int calls() const { return calls_; }

  /// Requires that everything verifies, the newest is `step` with a value of `values`, and the next checkpoint cleans
  /// up.
  void require_good(std::int64_t step, std::set<double> values) const {
    require(require_sound(path_) == step, "expected step {}", step);
    const auto newest = *folder_.load_newest();
    const auto value = newest.state.at("value").get<double>();
    require(values.contains(value) && newest.tensors.at("weights/a").equal(made(step, value).tensors.at("weights/a")),
            "expected the checkpoint as it was written, found value {}", value);
    folder_.save(made(4, 4));
    require(require_sound(path_) == 4 && !has_unfinished(path_),
            "expected the next checkpoint, and nothing unfinished");
  }

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  CheckpointFolder folder_;
  std::string met_;
  int calls_ = 0;
};

int calls() {
  const Scratch scratch;
  const auto folder = scratch.path / "run";
  std::set<std::string> seen, stopped;
  int failed = 0, died = 0, all = 0;

  // Each call fails once with each of these codes: the result is an Error, or nothing is lost.
  for (const int code : {EIO, ENOSPC, EDQUOT, EROFS, EACCES}) {
    for (int i = 0;; ++i) {
      Trial trial(folder, 2);
      const auto words = trial.save(3, {.fault = Fault::fails, .countdown = i, .code = code});
      if (trial.met().empty()) {
        all = trial.calls();
        require(words.empty(), "expected to save, found: {}", words);
        break;
      }
      seen.insert(trial.met());
      if (words.empty()) {
        trial.require_good(3, {3});
        continue;
      }
      ++failed;
      stopped.insert(trial.met());
      require(words.find("cannot write checkpoint '" + (folder / "step_3").string() + "': ") == 0 &&
                  words.find(ip2p::detail::errno_text(code)) != std::string::npos,
              "{}: expected words about step_3 and '{}', found: {}", trial.met(), ip2p::detail::errno_text(code),
              words);
      require(!has_unfinished(folder) && !fs::exists(folder / "step_3"), "{}: expected nothing of step 3", trial.met());
      require(CheckpointFolder(folder).steps() == std::vector<std::int64_t>{1, 2}, "expected steps 1 and 2");
      trial.require_good(2, {2});
    }
  }
  for (const char* name : {"write", "fsync", "rename", "mkdir"}) {
    require(stopped.contains(name), "expected a {} that fails to stop a checkpoint", name);
  }

  // The process dies in each call: the checkpoint exists or it does not. Again for one that replaces another.
  for (const std::int64_t step : {3, 2}) {
    for (int i = 0;; ++i) {
      Trial trial(folder, step == 3 ? 2 : 1);
      const bool dead = was_killed(in_a_process([&] { trial.save(step, {.fault = Fault::dies, .countdown = i}); }));
      const auto newest = CheckpointFolder(folder).load_newest();
      require(newest.has_value(), "expected a checkpoint after call {}", i);
      trial.require_good(newest->step, newest->step == 3 ? std::set<double>{3} : std::set<double>{2, 3});
      if (!dead) break;
      ++died;
    }
  }

  // Short writes are completed; writes that arrive altered are noticed.
  for (int i = 0; i <= all; ++i) {
    Trial trial(folder, 2);
    const auto words = trial.save(3, {.fault = Fault::shortened, .countdown = i, .always = i == all});
    require(words.empty(), "expected to save with short writes, found: {}", words);
    trial.require_good(3, {3});
  }
  int noticed = 0;
  for (int i = 0; i < all; ++i) {
    Trial trial(folder, 2);
    const auto words = trial.save(3, {.fault = Fault::garbled, .countdown = i});
    if (trial.met() != "write") continue;
    require(words.find("cannot write checkpoint") == 0, "expected a changed write to be noticed, found: '{}'", words);
    require(!has_unfinished(folder) && !fs::exists(folder / "step_3"), "expected nothing of step 3");
    trial.require_good(2, {2});
    ++noticed;
  }
  require(noticed >= 3, "expected several writes, found {}", noticed);
  std::puts(fmt::format("{} calls of a checkpoint ({}): {} failures reported, {} deaths survived, {} changed writes "
                        "noticed",
                        all, fmt::join(seen, ", "), failed, died, noticed)
                .c_str());
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  const auto& scenario = arguments.at(0);
  if (scenario == "killed") return killed(std::stoi(arguments.at(1)), std::stoull(arguments.at(2)));
  if (scenario == "calls") return calls();
  if (scenario == "compare") {
    std::puts(fmt::format("{} updates with the same bits", require_same_run(arguments.at(1), arguments.at(2))).c_str());
    return 0;
  }
  if (scenario == "train") {
    const example::Interrupt interrupt;
    try {
      const auto step = train(
          arguments.at(1), std::stol(arguments.at(2)), true, 10,
          [](const TrainingProgress& progress) {
            std::puts(fmt::format("step {}", progress.step).c_str());
            std::fflush(stdout);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          },
          interrupt.token());
      std::puts(fmt::format("ends at step {}", step).c_str());
      return 0;
    } catch (const Error& error) {
      std::puts(error.what());
      return 3;
    }
  }
  throw_error("scenario: expected one of those above, found '{}'", scenario);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::puts(fmt::format("unexpected: {}", error.what()).c_str());
    return 1;
  }
}
