// One of several processes that work together. tests/parallel/processes_test.sh starts them and checks what they did.
//
//   processes SCENARIO TIMEOUT_SECONDS [ARGUMENTS]
//
// Exit status 0: as expected; 1: not; 3: an Error that the scenario wants, which is printed.

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <concepts>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/parallel/launch.hpp"
#include "ip2p/testing/check_communicator.hpp"
#include "ip2p/train/adafactor.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/unet.hpp"
#include "train/tiny_editor.hpp"

namespace {

/// Whether the process dies where it next flushes a file to disk.
std::atomic<bool> die_in_fsync = false;

}  // namespace

extern "C" int fsync(int descriptor) {
  if (die_in_fsync) std::raise(SIGKILL);
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}

using namespace ip2p;

namespace {

/// Prints one line that begins with the rank.
template <class... Args>
void say(const ProcessGroup& group, fmt::format_string<Args...> format, Args&&... args) {
  std::puts(
      fmt::format("rank {} of {}: {}", group.rank(), group.size(), fmt::format(format, std::forward<Args>(args)...))
          .c_str());
  std::fflush(stdout);
}

UNet tiny_unet(std::uint64_t seed) {
  UNet unet(ip2p::testing::tiny_editor_config());
  initialise(unet.module(), seed);
  return unet;
}

/// Eleven pairs, so that epochs end within batches.
using Pairs = ip2p::testing::NumberedPairs<11>;

at::Tensor encode(std::span<const std::string> prompts) {
  std::vector<at::Tensor> rows;
  for (const auto& prompt : prompts) {
    rows.push_back(at::sin(at::arange(18, at::kFloat) * (1.0 + static_cast<double>(prompt.size()))).view({3, 6}));
  }
  return at::stack(rows);
}

constexpr std::uint64_t first_seed = 3;

/// Trains until `steps` updates are made in all, starting from the checkpoint in `folder` if there is one.
/// \param divided whether the processes divide the optimiser's state and the averages among them
template <class Optimiser>
int train(const ProcessGroup& group, const std::string& folder, std::int64_t steps, std::int64_t accumulate,
          std::int64_t shards, bool divided) {
  // Every process has different weights: those of rank 0 must win.
  const auto unet = tiny_unet(first_seed + static_cast<std::uint64_t>(group.rank()));
  Pairs pairs;
  const DiffusionLoss loss(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, {.batch = 8, .seed = 11},
                           ConditioningDropout{.2, .2, .2});
  TrainingOptionsOf<Optimiser> options;
  options.folder = group.rank() == 0 ? folder : folder + "/not-for-this-process";
  options.clip_norm = 1.0;
  options.accumulate = accumulate;
  options.shard_state = divided;
  options.asynchronous = accumulate == 1;  // checkpoints are written both ways
  options.threads = shards;
  options.prefetch.workers = shards > 1 ? 2 : 0;  // batches are prepared both ways, too
  Trainer trainer(Parameters().add(unet), loss, ConstantRate{2e-4}, options, group);
  const bool resumed = trainer.resume();
  const auto from = trainer.step();
  trainer.run(steps);
  for (const auto& [name, tensor] : trainer.snapshot().tensors) {
    const auto of_first = tensor.clone();
    group.broadcast(of_first, 0);
    require(of_first.equal(tensor), "rank {}: {}: expected the bits of rank 0", group.rank(), name);
  }
  require(group.rank() == 0 || !std::filesystem::exists(options.folder), "expected rank 0 alone to write, found {}",
          options.folder.string());
  const auto& run = trainer;
  auto snapshot = run.snapshot();
  for (auto& [name, tensor] : snapshot.tensors) tensor = tensor.clone();
  trainer.with_average([&] {
    for (std::size_t i = 0; i < run.parameters().size(); ++i) {
      const auto& name = run.parameters().names[i];
      require(run.parameters().tensors[i].equal(snapshot.tensors.at("average/" + name)),
              "rank {}: {}: expected the average in the weight's place", group.rank(), name);
    }
  });
  std::int64_t bytes = ip2p::detail::state_bytes(run.optimiser().state()), all = 0;
  for (const auto& tensor : run.average().average()) bytes += static_cast<std::int64_t>(tensor.nbytes());
  for (const auto& [name, tensor] : snapshot.tensors) {
    if (!name.starts_with("weights/")) all += static_cast<std::int64_t>(tensor.nbytes());
  }
  const double share = static_cast<double>(bytes) / static_cast<double>(all);
  // Shares are balanced by parameters, to which Adafactor's state is not proportional.
  const double tolerance = std::same_as<Optimiser, AdamW> ? 0.01 : 0.03;
  require(std::abs(share - (divided ? 1.0 / static_cast<double>(group.size()) : 1.0)) < tolerance,
          "rank {}: expected its share of {} bytes of state, found {}", group.rank(), all, bytes);
  say(group, "holds {} of {} bytes of optimiser state and averages", bytes, all);
  say(group, "{} from step {} to {}, last loss {:.6f}, the bits of rank 0 everywhere", resumed ? "resumed" : "trained",
      from, trainer.step(), trainer.curve().points().back().loss);
  return 0;
}

/// Where a process dies in its run.
enum class Phase {
  start,       ///< Before it has the others' weights.
  forward,     ///< In the loss.
  backward,    ///< In the gradients.
  reduce,      ///< While it waits for the others' gradients.
  checkpoint,  ///< While it writes a checkpoint; only rank 0 does.
  end,         ///< After the update.
};

Phase phase_named(const std::string& name) {
  const std::map<std::string, Phase> phases{{"start", Phase::start},           {"forward", Phase::forward},
                                            {"backward", Phase::backward},     {"reduce", Phase::reduce},
                                            {"checkpoint", Phase::checkpoint}, {"end", Phase::end}};
  const auto found = phases.find(name);
  require(found != phases.end(), "phase: expected one of those above, found '{}'", name);
  return found->second;
}

/// Trains with checkpoints every two updates. The first time that a supervisor starts it, `victim` dies in update
/// `at_step`. \param divided whether the processes divide the optimiser's state and the averages among them
int train_with_restarts(const ProcessGroup& group, const std::string& folder, std::int64_t steps, std::int64_t victim,
                        std::int64_t at_step, Phase phase, bool divided) {
  const char* restarts = std::getenv("TORCHELASTIC_RESTART_COUNT");
  const bool first_start = restarts == nullptr || std::string(restarts) == "0";
  const auto dies = [&](std::int64_t step, Phase here) {
    return first_start && group.rank() == victim && step == at_step && phase == here;
  };
  if (dies(at_step, Phase::start)) std::raise(SIGKILL);
  const auto unet = tiny_unet(first_seed);
  Pairs pairs;
  const DiffusionLoss whole(unet, encode, pairs, UniformTimesteps{}, EpsPrediction{}, {.batch = 4},
                            ConditioningDropout{.2, .2, .2});
  const auto loss = [&](std::int64_t step, std::int64_t part, std::int64_t parts) {
    if (dies(step + 1, Phase::forward)) std::raise(SIGKILL);
    if (dies(step + 1, Phase::checkpoint)) die_in_fsync = true;
    // The victim waits for rank 0, which comes late.
    if (dies(step + 1, Phase::reduce)) {
      std::thread([] {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        std::raise(SIGKILL);
      }).detach();
    } else if (first_start && phase == Phase::reduce && step + 1 == at_step && group.rank() == 0) {
      std::this_thread::sleep_for(std::chrono::seconds(3));
    }
    const auto value = whole(step, part, parts);
    if (dies(step + 1, Phase::backward)) value.register_hook([](const at::Tensor&) { std::raise(SIGKILL); });
    return value;
  };
  TrainingOptions options;
  options.folder = folder;
  options.checkpoint_every = 2;
  options.shard_state = divided;
  options.asynchronous = phase != Phase::checkpoint;  // else the others are elsewhere when it is written
  Trainer trainer(Parameters().add(unet), loss, ConstantRate{2e-4}, options, group);
  trainer.resume();
  say(group, "start {} from step {}", restarts == nullptr ? "without number" : restarts, trainer.step());
  trainer.run(steps, [&](const TrainingProgress& progress) {
    if (dies(progress.step, Phase::end)) std::raise(SIGKILL);
  });
  return 0;
}

/// Whether two folders of `train` hold the same run: losses within 2e-5 of each other (the file has six digits) and
/// weights and averages within `tolerance`; everything bit for bit if that is 0.
int compare(const std::string& one, const std::string& other, double tolerance) {
  const auto a = CheckpointFolder(one).load_newest();
  const auto b = CheckpointFolder(other).load_newest();
  require(a && b && a->step == b->step, "expected a checkpoint of one step in {} and {}", one, other);
  const auto start = tiny_unet(first_seed);
  double apart = 0.0, moved = 0.0;
  for (const auto& [name, tensor] : a->tensors) {
    const bool weight = name.starts_with("weights/");
    if (tolerance > 0 && !weight && !name.starts_with("average/")) continue;
    apart = std::max(apart, (tensor - b->tensors.at(name)).abs().max().item<double>());
  }
  for (const auto& [name, tensor] : start.module().named_parameters()) {
    moved = std::max(moved, (a->tensors.at("weights/unet." + name) - tensor).abs().max().item<double>());
  }
  const auto losses = LossCurve::read(one + "/loss.csv");
  const auto others = LossCurve::read(other + "/loss.csv");
  require(losses.size() == static_cast<std::size_t>(a->step) && others.size() == losses.size(),
          "expected {} losses, found {} and {}", a->step, losses.size(), others.size());
  double loss_apart = 0.0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    loss_apart = std::max(loss_apart, std::abs(losses[i].loss - others[i].loss) / losses[i].loss);
  }
  std::puts(fmt::format("{} updates: weights moved by up to {:.1e}; apart {:.1e}, losses {:.1e}", a->step, moved, apart,
                        loss_apart)
                .c_str());
  return moved > 5e-4 && apart <= tolerance && loss_apart <= (tolerance > 0 ? 2e-5 : 0.0) ? 0 : 1;
}

/// Trains one number; `at_step(step, loss)` may change each loss.
template <class AtStep>
void train_a_number(const ProcessGroup& group, at::Tensor weight, TrainingOptions options, AtStep&& at_step) {
  const auto loss = [&](std::int64_t step, std::int64_t part, std::int64_t) {
    return at_step(step, (weight - static_cast<double>(part)).square().sum());
  };
  Trainer run(Parameters{{"weight"}, {weight}}, loss, ConstantRate{0.1}, options, group);
  run.run(6, [&](const TrainingProgress& progress) { say(group, "step {}", progress.step); });
}

/// The loss of the last rank is not a number from the third update on.
int not_a_number(const ProcessGroup& group) {
  const auto weight = at::full({4}, 2.0).set_requires_grad(true);
  at::Tensor before;
  TrainingOptions options;
  options.largest_bad_streak = 2;
  try {
    train_a_number(group, weight, options, [&](std::int64_t step, const at::Tensor& loss) {
      if (step == 2) before = weight.detach().clone();
      return step >= 2 && group.rank() == group.size() - 1 ? loss * std::numeric_limits<double>::quiet_NaN() : loss;
    });
  } catch (const Error& error) {
    require(before.defined() && weight.detach().equal(before), "expected the weights to be left alone");
    say(group, "{}", error.what());
    return 3;
  }
  return 1;
}

/// The last rank disappears (`signal`) in its third update, before its loss or in its backward pass.
int vanish(const ProcessGroup& group, int signal, bool in_backward) {
  const auto weight = at::full({4}, 2.0).set_requires_grad(true);
  auto last_sign = std::chrono::steady_clock::now();
  try {
    train_a_number(group, weight, {}, [&](std::int64_t step, const at::Tensor& loss) {
      last_sign = std::chrono::steady_clock::now();
      if (step == 2 && group.rank() == group.size() - 1) {
        if (!in_backward) std::raise(signal);
        loss.register_hook([signal](const at::Tensor&) { std::raise(signal); });
      }
      return loss;
    });
  } catch (const Error& error) {
    say(group, "after {:.1f} s: {}",
        std::chrono::duration<double>(std::chrono::steady_clock::now() - last_sign).count(), error.what());
    return 3;
  }
  return 1;
}

/// Two processes that both say they are rank 1.
int twice() {
  c10d::HashStore store;
  const auto come = [&](std::int64_t rank) {
    const ProcessPlace place{.rank = rank, .size = 3, .address = "here", .port = 1};
    try {
      ip2p::detail::meet(store, place, std::chrono::seconds(4));
      std::puts("met");
    } catch (const Error& error) {
      std::puts(error.what());
    }
  };
  const std::jthread zero([&] { come(0); });
  const std::jthread one([&] { come(1); });
  std::this_thread::sleep_for(std::chrono::seconds(1));
  come(1);
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  const auto& scenario = arguments.at(0);
  if (scenario == "compare") return compare(arguments.at(1), arguments.at(2), std::stod(arguments.at(3)));
  if (scenario == "twice") return twice();
  const LaunchOptions options{.timeout = std::chrono::milliseconds(std::stol(arguments.at(1)) * 1000)};
  if (scenario == "alone") {
    try {
      launch(options);
    } catch (const Error& error) {
      std::puts(error.what());
      return 3;
    }
    return 1;
  }
  const auto group = launch(options);
  if (scenario == "laws") {
    testing::check_communicator(group);
    try {
      group.broadcast(at::full({1}, 0.0), group.size());
      return 1;
    } catch (const Error& error) {
      const auto expected = fmt::format("expected a root from 0 to {}, found {}", group.size() - 1, group.size());
      if (std::string(error.what()).find(expected) == std::string::npos) return 1;
    }
    say(group, "local rank {}: the laws hold", group.local_rank());
    return 0;
  }
  if (scenario == "train") {
    const bool divided = arguments.size() > 6 && arguments[6] == "divided";
    const bool adafactor = arguments.size() > 7 && arguments[7] == "adafactor";
    const auto train_with = adafactor ? train<Adafactor> : train<AdamW>;
    return train_with(group, arguments.at(2), std::stol(arguments.at(3)), std::stol(arguments.at(4)),
                      std::stol(arguments.at(5)), divided);
  }
  if (scenario == "restarts") {
    return train_with_restarts(group, arguments.at(2), std::stol(arguments.at(3)), std::stol(arguments.at(4)),
                               std::stol(arguments.at(5)), phase_named(arguments.at(6)),
                               arguments.size() > 7 && arguments[7] == "divided");
  }
  if (scenario == "nan") return not_a_number(group);
  if (scenario == "killed") return vanish(group, SIGKILL, arguments.at(2) == "backward");
  if (scenario == "stopped") return vanish(group, SIGSTOP, arguments.at(2) == "backward");
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
