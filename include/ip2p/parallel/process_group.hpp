#pragma once

/// \file
/// A communicator over PyTorch's c10d; `launch()` creates it.

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/parallel/concepts.hpp"
#include "ip2p/parallel/gradient_reducer.hpp"

namespace ip2p {

namespace detail {

/// An exception's message, without the backtrace that LibTorch appends.
inline std::string reason(const std::exception& problem) {
  const auto* torch = dynamic_cast<const c10::Error*>(&problem);
  std::string text = torch != nullptr ? torch->what_without_backtrace() : problem.what();
  return text.substr(0, text.find("\nException raised from"));
}

/// Numbers as "1, 3".
inline std::string list_of(const std::vector<std::int64_t>& numbers) {
  return fmt::format("{}", fmt::join(numbers, ", "));
}

}  // namespace detail

/// A `Communicator` over c10d, with the backends that `launch()` chose: Gloo, or NCCL between GPUs. Copies share one
/// group; a default-constructed one is a single process. Calls on one group must not run concurrently.
///
/// A call that fails, because a process died or did not take part within the timeout of `launch()`, throws `Error`
/// naming the operation and the ranks that no longer respond. The group is unusable afterwards.
class ProcessGroup {
 public:
  ProcessGroup() = default;

  /// \param store the store of the rendezvous; read only after a failure
  /// \param local_rank this process's number on its machine  \param timeout of the group, for messages
  ProcessGroup(c10::intrusive_ptr<c10d::ProcessGroup> group, c10::intrusive_ptr<c10d::Store> store,
               std::int64_t local_rank, std::chrono::milliseconds timeout)
      : rank_(group->getRank()),
        size_(group->getSize()),
        local_rank_(local_rank),
        timeout_(timeout),
        group_(std::move(group)),
        store_(std::move(store)) {}

  /// 0 ... size() - 1.
  [[nodiscard]] std::int64_t rank() const { return rank_; }
  /// Processes of the group, >= 1.
  [[nodiscard]] std::int64_t size() const { return size_; }

  /// Index of this process on its machine, from 0; see `device_for` for its GPU.
  [[nodiscard]] std::int64_t local_rank() const { return local_rank_; }

  /// Leaves the values of process `root` in `tensor` on every process. \throws Error for a root that is none, and where
  /// a process is gone
  void broadcast(const at::Tensor& tensor, std::int64_t root) const {
    require(root >= 0 && root < size_, "broadcast: expected a root from 0 to {}, found {}", size_ - 1, root);
    exchange("broadcast", tensor, [&](std::vector<at::Tensor>& buffers) {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return group_->broadcast(buffers, options);
    });
  }

  /// Leaves the sum over all processes in `tensor`, on every process. \throws Error where a process is gone
  void all_reduce(const at::Tensor& tensor) const {
    exchange("all_reduce", tensor, [&](std::vector<at::Tensor>& buffers) { return group_->allreduce(buffers); });
  }

  /// Returns when all processes have called it. \throws Error where a process is gone
  void barrier() const {
    guard("barrier", [&] {
      if (group_) group_->barrier()->wait();
    });
  }

  /// The underlying c10d group; null for a single process.
  [[nodiscard]] const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

  /// Calls `work`, which communicates, and turns any exception into an `Error` that names `operation`.
  template <class Work>
  void guard(const std::string& operation, Work&& work) const {
    try {
      work();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& problem) {
      throw_error("rank {} of {}: {}: expected all processes to take part within {} s, found: {} ({})", rank_, size_,
                  operation, std::chrono::duration<double>(timeout_).count(), detail::reason(problem), roll_call());
    }
  }

 private:
  template <class Start>
  void exchange(const char* operation, const at::Tensor& tensor, Start&& start) const {
    if (!group_ || tensor.numel() == 0) return;
    const at::NoGradGuard no_grad;
    guard(fmt::format("{} of {} {}", operation, c10::toString(tensor.scalar_type()), shape_text(tensor.sizes())), [&] {
      const auto values = tensor.detach();
      std::vector<at::Tensor> buffers{values.contiguous()};
      start(buffers)->wait();
      if (!buffers[0].is_same(values)) values.copy_(buffers[0]);
    });
  }

  /// Finds out who is left: each failing process leaves a note in the store, and the ranks that leave none in time are
  /// named. Runs in a separate thread, because the store may have died with the process that hosted it.
  [[nodiscard]] std::string roll_call() const {
    if (!store_) return "one process alone";
    const auto answer = std::make_shared<std::promise<std::string>>();
    auto result = answer->get_future();
    std::thread([answer, store = store_, rank = rank_, size = size_] {
      using namespace std::chrono_literals;
      try {
        const auto note = [](std::int64_t of) { return "failed/" + std::to_string(of); };
        store->set(note(rank), std::string("1"));
        // Rank 0 may host the store, so it leaves last.
        const auto until = std::chrono::steady_clock::now() + (rank == 0 ? 4s : 2s);
        std::vector<std::int64_t> silent;
        do {
          std::this_thread::sleep_for(50ms);
          silent.clear();
          for (std::int64_t other = 0; other < size; ++other) {
            if (!store->check({note(other)})) silent.push_back(other);
          }
        } while (!silent.empty() && std::chrono::steady_clock::now() < until);
        if (rank == 0) std::this_thread::sleep_for(500ms);
        answer->set_value(silent.empty() ? "all processes failed"
                                         : fmt::format("no sign of rank {}", detail::list_of(silent)));
      } catch (const std::exception&) {
        answer->set_value("no sign of the store, which rank 0 or the starter keeps");
      }
    }).detach();
    if (result.wait_for(std::chrono::seconds(5)) == std::future_status::ready) return result.get();
    return "no answer from the store, which rank 0 or the starter keeps";
  }

  std::int64_t rank_ = 0;
  std::int64_t size_ = 1;
  std::int64_t local_rank_ = 0;
  std::chrono::milliseconds timeout_{0};
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  c10::intrusive_ptr<c10d::Store> store_;
};
static_assert(Communicator<ProcessGroup>);

/// Averages gradients with c10d's Reducer, as PyTorch's DistributedDataParallel does: buckets are sent while the
/// backward pass still works on earlier layers. Every parameter must receive a gradient in every pass.
template <>
class GradientReducer<ProcessGroup> {
 public:
  /// \param parameters leaves that ask for gradients, the same on every process
  GradientReducer(std::vector<at::Tensor> parameters, ProcessGroup processes)
      : parameters_(std::move(parameters)), processes_(std::move(processes)) {
    if (processes_.size() == 1) return;
    const std::vector<bool> sparse(parameters_.size(), false);
    // One bucket for the first pass; the Reducer makes those of 25 MB itself, in the order in which it saw gradients.
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
        parameters_, {static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max())}, sparse));
    std::reverse(buckets.begin(), buckets.end());
    std::unordered_map<std::size_t, std::string> names;
    for (std::size_t i = 0; i < parameters_.size(); ++i) names.emplace(i, fmt::format("parameter {}", i));
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters_, std::move(buckets), processes_.group(), sparse, c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, std::move(names),
        c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<std::int64_t>{});
  }

  /// \param loss a scalar with its graph  \throws Error where a process is gone
  void backward(const at::Tensor& loss) {
    if (!reducer_) return loss.backward();
    processes_.guard("mean of the gradients", [&] {
      reducer_->rebuild_buckets();
      reducer_->prepare_for_backward({});
      loss.backward();
    });
  }

  /// Averages gradients that are there already. \throws Error where a process is gone
  void average() { detail::average_gradients(parameters_, processes_); }

 private:
  std::vector<at::Tensor> parameters_;
  ProcessGroup processes_;
  std::unique_ptr<c10d::Reducer> reducer_;
};

}  // namespace ip2p
