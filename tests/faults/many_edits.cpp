// Many edits in one process, with other settings and other LoRAs each; tests/faults/long_run.py compares the pictures
// with those of processes that make one each.
//
//   many_edits MODEL < JOBS
//
// JOBS has a line of JSON for each edit: image, prompt, seed, steps, resolution, loras (a list of [file, scale]), out.
// For each, the process prints how many KiB it then holds in memory.

#include <ATen/Parallel.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/image.hpp"
#include "ip2p/pipeline/open_model.hpp"

namespace {

std::int64_t resident_kib() {
  std::ifstream file("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE) / 1024;
}

ip2p::Editor opened(const char* model, const nlohmann::json& loras) {
  ip2p::OpenOptions options{.device = at::kCPU, .dtype = at::kFloat};
  for (const auto& lora : loras) options.loras.push_back({lora.at(0).get<std::string>(), lora.at(1).get<double>()});
  return ip2p::open_editor(model, options);
}

void run(const char* model) {
  nlohmann::json loras;
  std::optional<ip2p::Editor> editor;
  for (std::string line; std::getline(std::cin, line);) {
    const auto job = nlohmann::json::parse(line);
    if (!editor || job.at("loras") != loras) {
      editor.reset();
      editor = opened(model, loras = job.at("loras"));
    }
    const ip2p::RunSettings settings{.steps = job.at("steps").get<std::int64_t>(),
                                     .seed = job.at("seed").get<std::uint64_t>(),
                                     .resolution = job.at("resolution").get<std::int64_t>()};
    const auto photo = ip2p::read_image(job.at("image").get<std::string>());
    ip2p::write_image(job.at("out").get<std::string>(),
                      (*editor)(photo, job.at("prompt").get<std::string>(), settings));
    std::puts(fmt::format("{}", resident_kib()).c_str());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: many_edits MODEL < JOBS\n", stderr);
    return 2;
  }
  try {
    run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fputs(fmt::format("many_edits: {}\n", error.what()).c_str(), stderr);
    return 1;
  }
}
