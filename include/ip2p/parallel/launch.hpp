#pragma once

/// \file
/// Brings together the processes that `torchrun` or Slurm started.

#include "ip2p/parallel/environment.hpp"
#include "ip2p/parallel/nccl.hpp"
#include "ip2p/parallel/process_group.hpp"

// c10d's Gloo header declares nothing without this.
#if defined(IP2P_HAS_GLOO) && !defined(USE_C10D_GLOO)
#define USE_C10D_GLOO
#endif

#ifdef IP2P_HAS_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ip2p {

/// Settings of `launch()`.
struct LaunchOptions {
  /// How long processes wait for each other, at the start and in every operation. Must exceed the time that rank 0
  /// needs to write a checkpoint, because the others wait for it meanwhile.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
};

namespace detail {

/// Waits until all processes of this launch have arrived, and returns a token that only they share. The store may
/// outlive the processes and still hold entries from an earlier launch, so each process announces a random token of its
/// own, which rank 0 answers.
/// \throws Error naming the ranks that did not arrive
inline std::string meet(c10d::Store& store, const ProcessPlace& place, std::chrono::milliseconds timeout) {
  using namespace std::chrono_literals;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::random_device entropy;
  const std::string own = fmt::format("{:08x}{:08x}{:08x}", entropy(), entropy(), entropy());
  const auto expect = [&](const std::string& key, const std::string& whom) {
    while (!store.check({key})) {
      require(std::chrono::steady_clock::now() < deadline, "launch: rank {} of {} waited {} s for {} at {}:{}",
              place.rank, place.size, std::chrono::duration<double>(timeout).count(), whom, place.address, place.port);
      std::this_thread::sleep_for(10ms);
    }
  };
  const auto joined = [](const std::string& word, std::int64_t rank) {
    return fmt::format("joined/{}/{}", word, rank);
  };
  if (place.rank > 0) {
    store.set(fmt::format("here/{}", place.rank), own);
    expect("word/" + own, "rank 0");
    const auto word = store.get_to_str("word/" + own);
    require(store.add(joined(word, place.rank), 1) == 1,
            "launch: expected each rank once, found rank {} twice at {}:{}", place.rank, place.address, place.port);
    expect("complete/" + word, "the other ranks");
    return word;
  }
  std::vector<std::string> answered(static_cast<std::size_t>(place.size));
  while (true) {
    std::vector<std::int64_t> missing;
    for (std::int64_t rank = 1; rank < place.size; ++rank) {
      if (!store.check({joined(own, rank)})) missing.push_back(rank);
      const auto here = fmt::format("here/{}", rank);
      if (!store.check({here})) continue;
      const auto word = store.get_to_str(here);
      if (word == answered[static_cast<std::size_t>(rank)]) continue;
      answered[static_cast<std::size_t>(rank)] = word;
      store.set("word/" + word, own);
    }
    if (missing.empty()) break;
    require(std::chrono::steady_clock::now() < deadline, "launch: rank 0 of {} waited {} s for rank {} at {}:{}",
            place.size, std::chrono::duration<double>(timeout).count(), list_of(missing), place.address, place.port);
    std::this_thread::sleep_for(10ms);
  }
  store.set("complete/" + own, std::string("1"));
  return own;
}

}  // namespace detail

/// Joins the processes started with this one; a lone process gets a `ProcessGroup` of size 1. CPU tensors are sent over
/// Gloo; GPU tensors over NCCL if the program was compiled with it and every process has its own GPU, otherwise over
/// Gloo. \throws Error when `place` is invalid, when others do not arrive within the timeout, or when this program was
///   compiled without Gloo's headers and there are others
inline ProcessGroup launch(const ProcessPlace& place, [[maybe_unused]] const LaunchOptions& options = {}) {
  if (place.size == 1) return {};
#ifdef IP2P_HAS_GLOO
  try {
    c10d::TCPStoreOptions store_options;
    store_options.port = place.port;
    store_options.isServer = place.rank == 0 && !place.store_is_there;
    store_options.waitWorkers = false;
    store_options.multiTenant = true;
    store_options.timeout = options.timeout;
    const c10::intrusive_ptr<c10d::Store> door = c10::make_intrusive<c10d::PrefixStore>(
        "ip2p", c10::make_intrusive<c10d::TCPStore>(place.address, store_options));
    const auto word = detail::meet(*door, place, options.timeout);
    const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>(word, door);
    const auto rank = static_cast<int>(place.rank);
    const auto size = static_cast<int>(place.size);
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);

    using Gloo = c10d::ProcessGroupGloo;
    const bool here = place.address == "localhost" || place.address.starts_with("127.");
    auto gloo_options = Gloo::Options::create(options.timeout);
    if (here && std::getenv("GLOO_SOCKET_IFNAME") == nullptr) {
      // A machine's own host name may not resolve to an address.
      gloo_options->devices.push_back(Gloo::createDeviceForHostname("127.0.0.1"));
    } else {
      gloo_options = Gloo::Options::create_default(options.timeout);
    }
    const auto gloo = c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store), rank, size,
                                                std::move(gloo_options));
    group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
#ifdef IP2P_HAS_NCCL
    const bool over_nccl = detail::all_have_gpus(*store, place);
    if (over_nccl) detail::use_nccl(*group, store, place, options.timeout);
#else
    constexpr bool over_nccl = false;
#endif
    // Gloo copies GPU tensors through host memory.
    if (!over_nccl) group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::GLOO, gloo);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    group->setGroupName("ip2p");
    return {std::move(group), store, place.local_rank, options.timeout};
  } catch (const Error&) {
    throw;
  } catch (const std::exception& problem) {
    throw_error("launch: rank {} of {} at {}:{}: {}", place.rank, place.size, place.address, place.port,
                detail::reason(problem));
  }
#else
  throw_error(
      "launch: found {} processes, but this program was compiled without Gloo's headers, over which they talk: install "
      "them (Debian: libgloo-dev), configure and compile again, or start one process",
      place.size);
#endif
}

/// The same with the position read from the environment; see `place_in_environment`.
inline ProcessGroup launch(const LaunchOptions& options = {}) { return launch(place_in_environment(), options); }

}  // namespace ip2p
