#pragma once

/// \file
/// Writes checkpoints while training continues.

#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/checkpoint.hpp"

namespace ip2p {

namespace detail {

/// Copies `tensor` to new host memory; undefined stays undefined.
inline at::Tensor host_copy(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace detail

/// Writes checkpoints in a background thread, one at a time. The caller waits only while the tensors are copied to host
/// memory, and for the previous checkpoint if it is not finished yet.
///
/// A failed write is thrown as `Error` by the next call of any member; if there is none, the destructor prints it.
class CheckpointWriter {
 public:
  /// Writes one checkpoint or throws; called in the writer's thread.
  using Write = std::function<void(const Checkpoint&)>;

  /// \param write usually `CheckpointFolder::save`
  explicit CheckpointWriter(Write write) : write_(std::move(write)) {}

  CheckpointWriter(CheckpointWriter&&) noexcept = default;
  CheckpointWriter& operator=(CheckpointWriter&&) = delete;

  /// Waits for the write in progress.
  ~CheckpointWriter() {
    try {
      wait();
    } catch (const std::exception& error) {
      std::fputs(fmt::format("{}\n", error.what()).c_str(), stderr);
    }
  }

  /// Copies `checkpoint` and starts writing it. \throws Error if the previous one could not be written; this one is
  /// then not started
  void save(const Checkpoint& checkpoint) {
    wait();
    Checkpoint copy{checkpoint.step, {}, checkpoint.state};
    for (const auto& [name, tensor] : checkpoint.tensors) copy.tensors.emplace(name, detail::host_copy(tensor));
    begin(std::move(copy));
  }

  /// The same without a copy, for tensors that will not change any more.
  void begin(Checkpoint checkpoint) {
    wait();
    auto copy = std::make_unique<Checkpoint>(std::move(checkpoint));
    pending_ = std::async(std::launch::async, [write = write_, copy = std::move(copy)]() mutable {
      const auto mine = std::move(copy);  // frees its memory with the thread, not with the result
      write(*mine);
    });
  }

  /// Waits until nothing is being written. \throws Error if the write failed
  void wait() {
    if (!pending_.valid()) return;
    try {
      pending_.get();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw_error("cannot write the checkpoint: {}", error.what());
    }
  }

  /// \throws Error if the last write failed; does not wait
  void check() {
    if (pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) wait();
  }

 private:
  Write write_;
  std::future<void> pending_;
};

}  // namespace ip2p
