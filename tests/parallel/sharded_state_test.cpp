#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <exception>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/parallel/no_communicator.hpp"
#include "ip2p/train/adafactor.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"
#include "support/threads.hpp"

using namespace ip2p;
using ip2p::testing::as_processes;
using ip2p::testing::Defect;
using ip2p::testing::ScratchDir;
using ip2p::testing::Threads;

namespace {

/// Layers of various sizes and a loss that all of them take part in.
struct Model {
  explicit Model(std::uint64_t seed = 1) {
    std::uint32_t sample = 0;
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{1, 16, 8}, {1, 16}, {1, 6, 4, 3, 3}, {1, 6}, {1, 5, 6}, {1, 1}, {1, 12, 12}}) {
      parameters.names.push_back("layer" + std::to_string(sample));
      parameters.tensors.push_back(CounterNoise(seed, sample++).normal(shape, 0)[0].clone().set_requires_grad(true));
    }
  }

  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const std::int64_t count = 12 / parts;
    at::Tensor sum = at::zeros({});
    for (std::int64_t i = part * count; i < (part + 1) * count; ++i) {
      const double target = static_cast<double>((step * 12 + i) % 11) / 11.0;
      for (const auto& tensor : parameters.tensors) {
        sum = sum + (tensor - target).square().mean() / static_cast<double>(count);
      }
    }
    return sum;
  }

  Parameters parameters;
};

template <class Optimiser>
TrainingOptionsOf<Optimiser> options_in(const std::filesystem::path& folder, bool shard, bool asynchronous = false) {
  TrainingOptionsOf<Optimiser> options;
  options.folder = folder;
  options.shard_state = shard;
  options.asynchronous = asynchronous;
  options.clip_norm = 5.0;
  return options;
}

std::int64_t bytes_of_state(const auto& run) {
  auto bytes = ip2p::detail::state_bytes(run.optimiser().state());
  for (const auto& tensor : run.average().average()) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

/// A run of `steps` updates in all, resumed if there is a checkpoint. Returns its state at the end.
template <class Optimiser, class Processes>
Checkpoint train(const Processes& processes, const std::filesystem::path& folder, std::int64_t steps, bool shard,
                 bool asynchronous = false) {
  const Model model(static_cast<std::uint64_t>(processes.rank() + 1));
  Trainer run(model.parameters, model, ConstantRate{0.02}, options_in<Optimiser>(folder, shard, asynchronous),
              processes);
  run.resume();
  run.run(steps);
  auto snapshot = run.snapshot();
  for (auto& [name, tensor] : snapshot.tensors) tensor = tensor.clone();
  return snapshot;
}

double apart(const Checkpoint& a, const Checkpoint& b, const std::string& prefix = "") {
  require(a.tensors.size() == b.tensors.size(), "expected {} tensors, found {}", a.tensors.size(), b.tensors.size());
  double largest = 0.0;
  for (const auto& [name, tensor] : a.tensors) {
    if (!name.starts_with(prefix)) continue;
    largest = std::max(largest, (tensor - b.tensors.at(name)).abs().max().item<double>());
  }
  return largest;
}

}  // namespace

TEST_CASE("Owners are balanced by elements and depend only on the shapes", "[parallel]") {
  std::vector<at::Tensor> tensors;
  std::vector<std::int64_t> sizes{1, 50, 7, 100, 30, 30, 2, 80, 9, 60, 11};
  for (const auto size : sizes) tensors.push_back(at::zeros({size}));
  const auto total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  for (const std::int64_t processes : {1, 2, 3, 4}) {
    const auto owners = balanced_owners(tensors, processes);
    CHECK(owners == balanced_owners(tensors, processes));
    std::vector<std::int64_t> loads(static_cast<std::size_t>(processes), 0);
    for (std::size_t i = 0; i < owners.size(); ++i) loads.at(static_cast<std::size_t>(owners[i])) += sizes[i];
    for (const auto load : loads) CHECK(std::abs(load - total / processes) <= 10);
  }
  // More processes than tensors: some own nothing.
  CHECK(balanced_owners({at::zeros({3})}, 2) == std::vector<std::int64_t>{0});
}

TEMPLATE_TEST_CASE("Processes that divide their state train like one that has it all", "[parallel]", AdamW, Adafactor) {
  const auto alone = train<TestType>(NoCommunicator{}, {}, 6, false);
  for (const std::int64_t size : {2, 3}) {
    std::vector<Checkpoint> whole(static_cast<std::size_t>(size)), divided(static_cast<std::size_t>(size));
    as_processes(size, Defect::none, [&](const Threads& threads) {
      whole[static_cast<std::size_t>(threads.rank())] = train<TestType>(threads, {}, 6, false);
    });
    as_processes(size, Defect::none, [&](const Threads& threads) {
      divided[static_cast<std::size_t>(threads.rank())] = train<TestType>(threads, {}, 6, true);
    });
    for (const auto& snapshot : divided) {
      CHECK(apart(snapshot, whole.front()) == 0.0);  // weights, averages and all of the optimiser's state
      CHECK(apart(snapshot, alone, "weights/") < 1e-5);
    }
  }
}

TEST_CASE("Checkpoints fit any number of processes, with divided state or not", "[parallel]") {
  const ScratchDir scratch;
  const auto alone = train<AdamW>(NoCommunicator{}, {}, 9, false);
  for (const bool asynchronous : {false, true}) {
    const auto folder = scratch / (asynchronous ? "asynchronous" : "synchronous");
    const auto by = [&](std::int64_t size, std::int64_t steps, bool shard) {
      Checkpoint first;
      as_processes(size, Defect::none, [&](const Threads& threads) {
        auto snapshot =
            train<AdamW>(threads, threads.rank() == 0 ? folder : folder / "elsewhere", steps, shard, asynchronous);
        require(snapshot.step == steps, "expected step {}, found {}", steps, snapshot.step);
        if (threads.rank() == 0) first = std::move(snapshot);
      });
      const auto saved = CheckpointFolder(folder).load_newest();
      REQUIRE(saved.has_value());
      CHECK(saved->step == steps);
      CHECK(apart(*saved, first) == 0.0);  // what was collected is what was written
      return first;
    };
    by(3, 2, true);
    by(1, 3, true);
    by(2, 5, true);
    by(2, 7, false);
    const auto last = by(3, 9, true);
    CHECK(apart(last, alone, "weights/") < 1e-5);
    CHECK(apart(last, alone, "average/") < 1e-5);
    CHECK(last.state["ema_updates"] == 9);
    CHECK_FALSE(std::filesystem::exists(folder / "elsewhere"));
  }
}

TEST_CASE("Each process holds its share of the optimiser's state and averages", "[parallel]") {
  const Model model;
  const Trainer whole(model.parameters, model, ConstantRate{0.02}, options_in<AdamW>({}, true));
  CHECK(bytes_of_state(whole) == 12 * model.parameters.elements() + 4 * 7);
  for (const std::int64_t size : {2, 4}) {
    std::vector<std::int64_t> bytes(static_cast<std::size_t>(size));
    as_processes(size, Defect::none, [&](const Threads& threads) {
      const Model mine;
      const Trainer run(mine.parameters, mine, ConstantRate{0.02}, options_in<AdamW>({}, true), threads);
      bytes[static_cast<std::size_t>(threads.rank())] = bytes_of_state(run);
    });
    CHECK(std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0}) == bytes_of_state(whole));
    // The largest tensor has 216 of 541 elements, so a quarter is out of reach.
    for (const auto share : bytes) CHECK(share <= std::max<std::int64_t>(bytes_of_state(whole) / size, 12 * 216) + 100);
  }
}

TEST_CASE("Averages can take the place of weights and give way again if processes divide them", "[parallel]") {
  std::map<std::string, at::Tensor> expected;
  {
    const auto alone = train<AdamW>(NoCommunicator{}, {}, 4, false);
    for (const auto& [name, tensor] : alone.tensors) expected.emplace(name, tensor);
  }
  as_processes(2, Defect::none, [&](const Threads& threads) {
    const Model model;
    Trainer run(model.parameters, model, ConstantRate{0.02}, options_in<AdamW>({}, true), threads);
    run.run(4);
    const auto weights = run.snapshot().tensors;
    std::map<std::string, at::Tensor> before;
    for (const auto& [name, tensor] : weights) before.emplace(name, tensor.clone());
    const auto weights_are = [&](const std::string& kind) {
      for (std::size_t i = 0; i < model.parameters.size(); ++i) {
        const auto& name = model.parameters.names[i];
        require(at::allclose(model.parameters.tensors[i], expected.at(kind + name), 0, 1e-5), "{}: expected {}{}", name,
                kind, name);
        require(!at::allclose(expected.at("weights/" + name), expected.at("average/" + name), 0, 1e-4),
                "{}: expected an average that is not the weight", name);
      }
    };
    weights_are("weights/");
    run.with_average([&] { weights_are("average/"); });
    weights_are("weights/");
    try {
      run.with_average([] { throw_error("in between"); });
    } catch (const Error&) {
    }
    for (const auto& [name, tensor] : run.snapshot().tensors) {
      require(tensor.equal(before.at(name)), "{}: expected the bits from before", name);
    }
    // A state that every process is given.
    auto state = run.snapshot();
    for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
    run.run(6);
    run.restore(state);
    for (const auto& [name, tensor] : run.snapshot().tensors) {
      require(tensor.equal(before.at(name)), "{}: expected the bits that were restored", name);
    }
    require(run.step() == 4, "expected step 4, found {}", run.step());
  });
}

TEST_CASE("If rank 0 cannot write or read its checkpoint, all processes stop", "[parallel]") {
  const ScratchDir scratch;
  std::ofstream(scratch / "file") << "x";
  for (const bool shard : {false, true}) {
    for (const bool asynchronous : {false, true}) {
      std::vector<std::string> words(2);
      as_processes(2, Defect::none, [&](const Threads& threads) {
        const Model model;
        const auto folder = threads.rank() == 0 ? scratch / "file/inside" : std::filesystem::path();
        Trainer run(model.parameters, model, ConstantRate{0.02}, options_in<AdamW>(folder, shard, asynchronous),
                    threads);
        try {
          run.run(2);
        } catch (const std::exception& error) {
          words[static_cast<std::size_t>(threads.rank())] = error.what();
        }
      });
      CHECK_THAT(words[0], Catch::Contains("file/inside"));
      CHECK_THAT(words[1], Catch::Contains("rank 0 could not write its checkpoint; its own message says why"));
    }
  }
  // A checkpoint of other parameters is noticed before anything is sent, and nothing is changed.
  train<AdamW>(NoCommunicator{}, scratch / "run", 2, false);
  as_processes(2, Defect::none, [&](const Threads& threads) {
    const auto weight = at::full({3}, 2.0).set_requires_grad(true);
    const auto loss = [&](std::int64_t) { return weight.sum(); };
    Trainer run(Parameters{{"weight"}, {weight}}, loss, ConstantRate{0.1},
                options_in<AdamW>(threads.rank() == 0 ? scratch / "run" : std::filesystem::path(), true), threads);
    try {
      run.resume();
      throw_error("expected a refusal");
    } catch (const Error& error) {
      const std::string expected =
          threads.rank() == 0 ? "no tensor 'weights/weight'" : "rank 0 could not resume from its checkpoint";
      require(std::string(error.what()).find(expected) != std::string::npos, "{}", error.what());
    }
    require(weight.equal(at::full({3}, 2.0)) && run.step() == 0, "expected nothing to change");
  });
}

TEST_CASE("State is divided for parameters of one dtype only", "[parallel]") {
  CHECK_THROWS_WITH(
      as_processes(
          2, Defect::none,
          [](const Threads& threads) {
            const auto a = at::zeros({2}).set_requires_grad(true);
            const auto b = at::zeros({2}, at::kDouble).set_requires_grad(true);
            const auto loss = [&](std::int64_t) { return a.sum() + b.sum(); };
            Trainer run(Parameters{{"a", "b"}, {a, b}}, loss, ConstantRate{0.1}, options_in<AdamW>({}, true), threads);
          }),
      Catch::Contains("parameters of one dtype where processes divide their state") &&
          Catch::Contains("Float and Double"));
}
