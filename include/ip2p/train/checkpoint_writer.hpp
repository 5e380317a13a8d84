#pragma once

/// \file
/// Writes checkpoints while training continues.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/out_of_memory.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/checkpoint.hpp"

namespace ip2p {

namespace detail {

/// Copies tensors to host memory, one after another. Those of a GPU pass through one pinned block, which is several
/// times as fast as a copy to ordinary memory; to pin the copies themselves would take as much as the whole run from
/// what the system can move about.
class HostCopies {
 public:
  /// `tensor` in new memory of the host, with the same strides if they leave no gaps; undefined stays undefined.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (tensor.is_cuda() && tensor.is_non_overlapping_and_dense()) return through(tensor.detach(), block(tensor));
    return tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  }

  /// The same through `block`, at least as many bytes in memory of the host.
  [[nodiscard]] static at::Tensor through(const at::Tensor& tensor, const at::Tensor& block) {
    const auto bytes = static_cast<std::int64_t>(tensor.nbytes());
    const auto stage = block.narrow(0, 0, bytes).view(tensor.scalar_type());
    // Dense tensors of equal strides are the same row of bytes.
    stage.as_strided(tensor.sizes(), tensor.strides()).copy_(tensor);
    const auto copy =
        at::empty_strided(tensor.sizes(), tensor.strides(), at::TensorOptions().dtype(tensor.scalar_type()));
    copy.copy_(stage.as_strided(tensor.sizes(), tensor.strides()));
    return copy;
  }

 private:
  const at::Tensor& block(const at::Tensor& tensor) {
    const auto bytes = static_cast<std::int64_t>(tensor.nbytes());
    if (!block_.defined() || block_.size(0) < bytes) {
      block_ = at::Tensor();
      block_ = at::empty({std::max(bytes, std::int64_t{64} << 20)},
                         at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    }
    return block_;
  }

  at::Tensor block_;
};

}  // namespace detail

/// Writes checkpoints in a background thread, one at a time. The caller waits only while the tensors are copied to host
/// memory, and for the previous checkpoint if it is not finished yet.
///
/// A failed write is thrown as `Error` by the next call of any member, or as it was thrown if memory ran out; if there
/// is no call, the destructor prints it.
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
    detail::HostCopies host_copy;
    for (const auto& [name, tensor] : checkpoint.tensors) copy.tensors.emplace(name, host_copy(tensor));
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
      if (is_out_of_memory(error)) throw;
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
