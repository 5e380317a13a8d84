#include "ip2p/parallel/device_for.hpp"

#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace ip2p;

namespace {

using Variables = std::map<std::string, std::string>;

/// Where the environment places a process, on an imaginary machine with `count` CUDA devices.
at::Device device(const std::string& name, const Variables& variables, std::int64_t count) {
  const auto place = place_in_environment([&](const char* variable) {
    const auto found = variables.find(variable);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
  return ip2p::detail::device_for(name, place, count);
}

Variables on_torchrun(const std::string& local_rank) {
  return {{"RANK", "1"},           {"WORLD_SIZE", "8"}, {"LOCAL_RANK", local_rank}, {"LOCAL_WORLD_SIZE", "4"},
          {"MASTER_ADDR", "here"}, {"MASTER_PORT", "1"}};
}

Variables on_slurm(const std::string& local_rank) {
  return {{"SLURM_PROCID", "1"},      {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", local_rank},
          {"SLURM_NODELIST", "here"}, {"SLURM_JOB_ID", "1"}, {"SLURM_NTASKS_PER_NODE", "4"}};
}

at::Device gpu(int index) { return {at::kCUDA, static_cast<at::DeviceIndex>(index)}; }

}  // namespace

TEST_CASE("Every process on a machine takes its own GPU", "[parallel]") {
  for (int rank = 0; rank < 4; ++rank) {
    const auto text = std::to_string(rank);
    for (const std::string name : {"auto", "cuda"}) {
      CHECK(device(name, on_torchrun(text), 4) == gpu(rank));
      CHECK(device(name, on_slurm(text), 4) == gpu(rank));
      CHECK(device(name, on_torchrun(text), 8) == gpu(rank));
      // Slurm with --gpus-per-task=1 shows each task only its own.
      CHECK(device(name, on_slurm(text), 1) == gpu(0));
    }
    CHECK(device("auto", on_torchrun(text), 0) == at::Device(at::kCPU));
    CHECK(device("cpu", on_torchrun(text), 4) == at::Device(at::kCPU));
  }
  CHECK(device("cuda", {}, 4) == gpu(0));
  CHECK(device("cuda:3", {}, 4) == gpu(3));
  CHECK(device("cuda:0", on_slurm("2"), 1) == gpu(0));
}

TEST_CASE("A device that does not exist is refused, and so are fewer GPUs than processes", "[parallel]") {
  using Catch::Contains;
  CHECK_THROWS_WITH(
      device("cuda", on_torchrun("2"), 2),
      Contains("expected a GPU for each process of the machine, found 2 for the process with local rank 2"));
  CHECK_THROWS_WITH(device("auto", on_slurm("3"), 3), Contains("device 'auto'") && Contains("found 3"));
  CHECK_THROWS_WITH(device("cuda:1", on_torchrun("0"), 4),
                    Contains("device 'cuda:1': expected auto or cuda where 4 processes share a machine"));
  CHECK_THROWS_WITH(device("cuda", on_torchrun("0"), 0), Contains("expected a CUDA device, found none"));
  for (const auto& variables : {Variables{}, on_torchrun("0")}) {
    CHECK_THROWS_WITH(device("cuda:4", variables, 4), Contains("device 'cuda:4': expected an index below 4"));
    for (const std::string name : {"gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda1", "cuda:1x", "Auto"}) {
      CHECK_THROWS_WITH(device(name, variables, 4), Contains("expected auto, cpu, cuda or cuda:N"));
    }
  }
  CHECK(ip2p::detail::parse_device("auto", 0) == at::Device(at::kCPU));
  CHECK(ip2p::detail::parse_device("auto", 2) == gpu(0));
  CHECK(ip2p::detail::parse_device("cuda", 2) == gpu(0));
  CHECK(ip2p::detail::parse_device("cuda:1", 2) == gpu(1));
  CHECK_THROWS_WITH(ip2p::detail::parse_device("cuda:2", 2), Contains("expected an index below 2"));
  CHECK_THROWS_WITH(ip2p::detail::parse_device("cuda:0", 0), Contains("found none that LibTorch can use"));

  auto lost = on_torchrun("4");
  CHECK_THROWS_WITH(device("cuda", lost, 8), Contains("LOCAL_RANK=4 and LOCAL_WORLD_SIZE=4 contradict each other"));
}
