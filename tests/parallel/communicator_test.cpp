#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <map>
#include <string>
#include <vector>

#include "ip2p/parallel/environment.hpp"
#include "ip2p/parallel/no_communicator.hpp"
#include "ip2p/testing/check_communicator.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/threads.hpp"

using namespace ip2p;
using ip2p::testing::as_processes;
using ip2p::testing::check_communicator;
using ip2p::testing::Defect;
using ip2p::testing::Threads;

namespace {

using Variables = std::map<std::string, std::string>;

ProcessPlace place_in(const Variables& variables) {
  return place_in_environment([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

Variables torchrun(const std::string& rank = "5") {
  return {{"RANK", rank},           {"WORLD_SIZE", "8"},      {"LOCAL_RANK", "1"},
          {"MASTER_ADDR", "node7"}, {"MASTER_PORT", "29501"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

Variables slurm() {
  return {{"SLURM_PROCID", "3"},
          {"SLURM_NTASKS", "4"},
          {"SLURM_LOCALID", "1"},
          {"SLURM_NODELIST", "gpu[007-009,12],login"},
          {"SLURM_JOB_ID", "1234567"}};
}

}  // namespace

TEST_CASE("The laws of Communicator hold for one process and between threads, and the kit notices if they do not",
          "[parallel]") {
  CHECK_NOTHROW(check_communicator(NoCommunicator{}));
  const auto check = [](std::int64_t size, Defect defect) {
    as_processes(size, defect, [](const Threads& threads) { check_communicator(threads); });
  };
  CHECK_NOTHROW(check(1, Defect::none));
  CHECK_NOTHROW(check(3, Defect::none));
  CHECK_THROWS_WITH(check(2, Defect::forgets_last), Catch::Contains("exact for whole numbers"));
  CHECK_THROWS_WITH(check(1, Defect::other_ranks), Catch::Contains("ranks are 0 ... size - 1"));
  // With two ranks, the root rightly keeps its own bits and the other rank wrongly: one of them must object.
  CHECK_THROWS_WITH(check(2, Defect::keeps_own), Catch::Contains("broadcast leaves the root's bits"));
}

TEST_CASE("Processes start from the weights of rank 0 and make the update of the whole batch", "[parallel]") {
  // (w - i)^2 over the samples i = 0 ... 5 of a batch.
  const auto train = [](const auto& processes, double start) {
    auto weight = at::full({2}, start).set_requires_grad(true);
    TrainingOptions options;
    options.optimiser.weight_decay = 0.0;
    const auto loss = [&](std::int64_t, std::int64_t part, std::int64_t parts) {
      const std::int64_t count = 6 / parts;
      auto sum = weight.sum() * 0.0;
      for (std::int64_t i = part * count; i < (part + 1) * count; ++i) {
        sum = sum + (weight - static_cast<double>(i)).square().mean() / static_cast<double>(count);
      }
      return sum;
    };
    Trainer run(Parameters{{"weight"}, {weight}}, loss, ConstantRate{0.1}, options, processes);
    std::vector<double> losses;
    run.run(4, [&](const TrainingProgress& progress) { losses.push_back(progress.loss); });
    losses.push_back(weight[0].item<double>());
    return losses;
  };
  const auto alone = train(NoCommunicator{}, 9.0);
  CHECK(alone[0] == Approx((81 + 64 + 49 + 36 + 25 + 16) / 6.0));
  for (const std::int64_t size : {2, 3}) {
    as_processes(size, Defect::none, [&](const Threads& threads) {
      const auto together = train(threads, threads.rank() == 0 ? 9.0 : -5.0);
      for (std::size_t i = 0; i < alone.size(); ++i) {
        require(std::abs(together[i] - alone[i]) < 1e-4, "value {}: expected {}, found {}", i, alone[i], together[i]);
      }
    });
  }
}

TEST_CASE("Different parameters on another process are refused before anything is changed", "[parallel]") {
  CHECK_THROWS_WITH(
      as_processes(2, Defect::none,
                   [](const Threads& threads) {
                     auto weight = at::ones({2 + threads.rank()}).set_requires_grad(true);
                     const auto loss = [&](std::int64_t) { return weight.sum(); };
                     Trainer run(Parameters{{"weight"}, {weight}}, loss, ConstantRate{0.1}, TrainingOptions{}, threads);
                   }),
      Catch::Contains("same parameters on every process, found others on rank 1"));
}

TEST_CASE("torchrun's variables name the place of a process", "[parallel]") {
  const auto place = place_in(torchrun());
  CHECK(place.rank == 5);
  CHECK(place.size == 8);
  CHECK(place.local_rank == 1);
  CHECK(place.address == "node7");
  CHECK(place.port == 29501);
  CHECK(place.store_is_there);
  CHECK(place_in({}).size == 1);
  CHECK(place_in({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).size == 1);
  auto both = torchrun();
  both.merge(slurm());
  CHECK(place_in(both).rank == 5);
  both.erase("TORCHELASTIC_USE_AGENT_STORE");
  CHECK_FALSE(place_in(both).store_is_there);

  for (const char* missing : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    auto variables = torchrun();
    variables.erase(missing);
    CHECK_THROWS_WITH(place_in(variables), Catch::Contains(std::string("expected ") + missing + " too"));
  }
  CHECK_THROWS_WITH(place_in(torchrun("8")), Catch::Contains("RANK=8 and WORLD_SIZE=8 contradict each other"));
  CHECK_THROWS_WITH(place_in(torchrun("five")),
                    Catch::Contains("RANK: expected a whole number") && Catch::Contains("'five'"));
  CHECK_THROWS_WITH(place_in(torchrun("-1")), Catch::Contains("RANK: expected a whole number from 0"));
  auto far = torchrun();
  far["LOCAL_RANK"] = "9";
  CHECK_THROWS_WITH(place_in(far), Catch::Contains("LOCAL_RANK=9 and WORLD_SIZE=8 contradict each other"));
  far = torchrun();
  far["MASTER_PORT"] = "70000";
  CHECK_THROWS_WITH(place_in(far), Catch::Contains("MASTER_PORT: expected a whole number from 1 to 65535"));
}

TEST_CASE("Slurm's variables name the place of a task, its first host and a port of the job", "[parallel]") {
  const auto place = place_in(slurm());
  CHECK(place.rank == 3);
  CHECK(place.size == 4);
  CHECK(place.local_rank == 1);
  CHECK(place.address == "gpu007");
  CHECK(place.port == 19567);
  CHECK_FALSE(place.store_is_there);
  // An allocation in which this is not a task does not start several processes.
  CHECK(place_in({{"SLURM_NTASKS", "4"}}).size == 1);

  const auto address = [](const std::string& name, const std::string& value) {
    auto variables = slurm();
    variables.erase("SLURM_NODELIST");
    variables[name] = value;
    return place_in(variables).address;
  };
  CHECK(address("SLURM_NODELIST", "alpha,beta") == "alpha");
  CHECK(address("SLURM_NODELIST", "rack[2-3]node[08,11]-ib") == "rack2node08-ib");
  CHECK(address("SLURM_JOB_NODELIST", "solo") == "solo");
  CHECK(address("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.3") == "10.0.0.3");
  CHECK(address("MASTER_ADDR", "::1") == "::1");
  CHECK_THROWS_WITH(address("SLURM_NODELIST", "gpu[1-2"), Catch::Contains("expected ']' in 'gpu[1-2'"));
  CHECK_THROWS_WITH(address("UNRELATED", ""),
                    Catch::Contains("SLURM_NODELIST, SLURM_LAUNCH_NODE_IPADDR or MASTER_ADDR"));

  for (const char* missing : {"SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID"}) {
    auto variables = slurm();
    variables.erase(missing);
    CHECK_THROWS_WITH(place_in(variables), Catch::Contains(std::string("expected ") + missing + " too"));
  }
  auto variables = slurm();
  variables["SLURM_PROCID"] = "4";
  CHECK_THROWS_WITH(place_in(variables), Catch::Contains("SLURM_PROCID=4 and SLURM_NTASKS=4 contradict each other"));
}
