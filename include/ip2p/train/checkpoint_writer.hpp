#pragma once

/// \file
/// Checkpoints written while training goes on.

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

/// The values of `tensor` in host memory of their own; undefined stays undefined.
inline at::Tensor host_copy(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace detail

/// Writes checkpoints in a thread of its own, one at a time. The caller waits for the copy of the tensors, into host
/// memory, and where the checkpoint before is not finished yet, for that.
///
/// A checkpoint that could not be written is an `Error` of the next call, whichever that is; one that no call is left
/// to report is printed when the writer goes.
class CheckpointWriter {
 public:
  /// Writes one checkpoint or throws; called in the writer's thread.
  using Write = std::function<void(const Checkpoint&)>;

  /// \param write usually `CheckpointFolder::save`
  explicit CheckpointWriter(Write write) : write_(std::move(write)) {}

  CheckpointWriter(CheckpointWriter&&) noexcept = default;
  CheckpointWriter& operator=(CheckpointWriter&&) = delete;

  /// Waits for what is being written.
  ~CheckpointWriter() {
    try {
      wait();
    } catch (const std::exception& error) {
      std::fputs(fmt::format("{}\n", error.what()).c_str(), stderr);
    }
  }

  /// Copies `checkpoint` and begins to write it. Throws `Error` if the one before could not be written; this one is not
  /// begun then.
  void save(const Checkpoint& checkpoint) {
    wait();
    Checkpoint copy{checkpoint.step, {}, checkpoint.state};
    for (const auto& [name, tensor] : checkpoint.tensors) copy.tensors.emplace(name, detail::host_copy(tensor));
    begin(std::move(copy));
  }

  /// The same without a copy, for tensors that nobody changes any more.
  void begin(Checkpoint checkpoint) {
    wait();
    auto copy = std::make_unique<Checkpoint>(std::move(checkpoint));
    pending_ = std::async(std::launch::async, [write = write_, copy = std::move(copy)]() mutable {
      const auto mine = std::move(copy);  // its memory goes with the thread, not with the result
      write(*mine);
    });
  }

  /// Returns when nothing is being written. Throws `Error` if it could not be.
  void wait() {
    if (!pending_.valid()) return;
    try {
      pending_.get();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      fail("cannot write the checkpoint: {}", error.what());
    }
  }

  /// Throws `Error` if what was being written could not be; does not wait.
  void check() {
    if (pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) wait();
  }

 private:
  Write write_;
  std::future<void> pending_;
};

}  // namespace ip2p
