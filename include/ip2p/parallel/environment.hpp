#pragma once

/// \file
/// Reads from the environment what `torchrun` and Slurm tell a process about its group.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// A process's position in the group that it was started with.
struct ProcessPlace {
  std::int64_t rank = 0;        ///< 0 ... size - 1.
  std::int64_t size = 1;        ///< Processes in all.
  std::int64_t local_rank = 0;  ///< Index on its machine, from 0; see `device_for` for its GPU.
  std::int64_t local_size = 1;  ///< Processes on its machine; a lower bound if the exact number is unknown.
  std::string address;          ///< Rendezvous host; empty if there is only one process.
  std::uint16_t port = 0;       ///< Of the store; 0 where there is one process only.
  bool store_is_there = false;  ///< The launcher (torchrun) hosts the store; otherwise rank 0 does.
};

/// Value of an environment variable, or nullptr.
using Environment = std::function<const char*(const char*)>;

namespace detail {

/// First machine of a Slurm node list such as "rack[07-09,12]a,login".
inline std::string first_host(std::string_view nodes) {
  std::string host;
  for (std::size_t i = 0; i < nodes.size() && nodes[i] != ','; ++i) {
    if (nodes[i] != '[') {
      host += nodes[i];
      continue;
    }
    const auto close = nodes.find(']', i);
    require(close != std::string_view::npos, "launch: SLURM_NODELIST: expected ']' in '{}', found none", nodes);
    const auto range = nodes.substr(i + 1, close - i - 1);
    host += range.substr(0, range.find_first_of("-,"));
    i = close;
  }
  return host;
}

/// Reads variables and reports which one is missing or invalid.
class Variables {
 public:
  Variables(const Environment& get, std::string_view starter) : get_(get), starter_(starter) {}

  [[nodiscard]] bool has(const char* name) const {
    const char* value = get_(name);
    return value != nullptr && *value != '\0';
  }

  [[nodiscard]] std::string text(const char* name) const {
    require(has(name), "launch: {}: expected {} too, found it unset", starter_, name);
    return get_(name);
  }

  [[nodiscard]] std::int64_t number(const char* name, std::int64_t least, std::int64_t most) const {
    const auto found = text(name);
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(found.data(), found.data() + found.size(), value);
    require(problem == std::errc() && end == found.data() + found.size() && value >= least && value <= most,
            "launch: {}: expected a whole number from {} to {}, found '{}'", name, least, most, found);
    return value;
  }

 private:
  const Environment& get_;
  std::string_view starter_;
};

inline void require_below(std::int64_t value, const char* name, std::int64_t size, const char* size_name) {
  require(value < size, "launch: {}={} and {}={} contradict each other: expected {} below {}", name, value, size_name,
          size, name, size_name);
}

inline constexpr std::int64_t most_processes = 1 << 20;

}  // namespace detail

/// Reads the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) or, where
/// neither RANK nor WORLD_SIZE is set, those of a task that Slurm's `srun` started (SLURM_PROCID, SLURM_NTASKS,
/// SLURM_LOCALID, SLURM_NTASKS_PER_NODE; the rendezvous host is MASTER_ADDR or the first host of the node list, the
/// port MASTER_PORT or one derived from SLURM_JOB_ID). Without any of them the process is alone. \throws Error when a
/// variable of the set is missing, not a number, or contradicts another
inline ProcessPlace place_in_environment(const Environment& get = [](const char* name) { return std::getenv(name); }) {
  using detail::most_processes;
  ProcessPlace place;
  if (const detail::Variables torchrun(get, "RANK or WORLD_SIZE is set");
      torchrun.has("RANK") || torchrun.has("WORLD_SIZE")) {
    place.rank = torchrun.number("RANK", 0, most_processes);
    place.size = torchrun.number("WORLD_SIZE", 1, most_processes);
    detail::require_below(place.rank, "RANK", place.size, "WORLD_SIZE");
    if (place.size == 1) return place;
    place.local_rank = torchrun.number("LOCAL_RANK", 0, most_processes);
    detail::require_below(place.local_rank, "LOCAL_RANK", place.size, "WORLD_SIZE");
    place.local_size = place.local_rank + 1;
    if (torchrun.has("LOCAL_WORLD_SIZE")) {
      place.local_size = torchrun.number("LOCAL_WORLD_SIZE", 1, most_processes);
      detail::require_below(place.local_rank, "LOCAL_RANK", place.local_size, "LOCAL_WORLD_SIZE");
    }
    place.address = torchrun.text("MASTER_ADDR");
    place.port = static_cast<std::uint16_t>(torchrun.number("MASTER_PORT", 1, 65535));
    place.store_is_there =
        torchrun.has("TORCHELASTIC_USE_AGENT_STORE") && torchrun.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
    return place;
  }
  if (const detail::Variables slurm(get, "SLURM_PROCID is set"); slurm.has("SLURM_PROCID")) {
    place.rank = slurm.number("SLURM_PROCID", 0, most_processes);
    place.size = slurm.number("SLURM_NTASKS", 1, most_processes);
    detail::require_below(place.rank, "SLURM_PROCID", place.size, "SLURM_NTASKS");
    if (place.size == 1) return place;
    place.local_rank = slurm.number("SLURM_LOCALID", 0, most_processes);
    detail::require_below(place.local_rank, "SLURM_LOCALID", place.size, "SLURM_NTASKS");
    place.local_size = place.local_rank + 1;
    if (slurm.has("SLURM_NTASKS_PER_NODE")) {
      place.local_size = std::max(place.local_size, slurm.number("SLURM_NTASKS_PER_NODE", 1, most_processes));
    }
    if (slurm.has("MASTER_ADDR")) place.address = slurm.text("MASTER_ADDR");
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"}) {
      if (place.address.empty() && slurm.has(name)) place.address = detail::first_host(slurm.text(name));
    }
    if (place.address.empty() && slurm.has("SLURM_LAUNCH_NODE_IPADDR")) {
      place.address = slurm.text("SLURM_LAUNCH_NODE_IPADDR");
    }
    require(!place.address.empty(),
            "launch: SLURM_PROCID is set: expected SLURM_NODELIST, SLURM_LAUNCH_NODE_IPADDR or "
            "MASTER_ADDR too, found them unset");
    // Keeps two jobs on one machine apart; the range lies below the system's ephemeral ports.
    place.port = static_cast<std::uint16_t>(slurm.has("MASTER_PORT")
                                                ? slurm.number("MASTER_PORT", 1, 65535)
                                                : 15000 + slurm.number("SLURM_JOB_ID", 0, INT64_MAX) % 10000);
  }
  return place;
}

}  // namespace ip2p
