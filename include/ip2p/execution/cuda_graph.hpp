#pragma once

/// \file
/// Recording of work on a CUDA device as a CUDA graph. Needs a LibTorch with CUDA and the headers of the CUDA runtime,
/// and is not part of `ip2p/ip2p.hpp`.

#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/execution/concepts.hpp"
#include "ip2p/execution/graphed.hpp"
#include "ip2p/execution/static_inputs.hpp"

namespace ip2p {

/// Records with `at::cuda::CUDAGraph`: about a thousand launches become one.
///
/// The work is run `warm_ups` times on a stream of its own before it is recorded there, because handles, workspaces and
/// cuDNN's choice of algorithms are made at first use, and recording allows none of it. Each recording has its own pool
/// of memory, which is freed with it.
struct CudaGraph {
  int warm_ups = 2;  ///< Runs of the work before it is recorded, >= 1.

  /// A recorded graph.
  class Recording {
   public:
    /// \param outputs the tensors that the graph writes
    Recording(std::unique_ptr<at::cuda::CUDAGraph> graph, std::vector<at::Tensor> outputs)
        : graph_(std::move(graph)), outputs_(std::move(outputs)) {}
    /// Launches the graph on the current stream.
    void replay() { graph_->replay(); }
    /// The tensors that it writes.
    [[nodiscard]] const std::vector<at::Tensor>& outputs() const { return outputs_; }

   private:
    std::unique_ptr<at::cuda::CUDAGraph> graph_;  // outlives its pool's tensors
    std::vector<at::Tensor> outputs_;
  };

  /// Why work on `device` cannot be recorded; empty for a CUDA device.
  [[nodiscard]] std::string obstacle(at::Device device) const {
    return device.is_cuda() ? std::string() : "CUDA graphs need a CUDA device, and it is on " + device.str();
  }

  /// The current stream, and the settings of the process that choose kernels.
  [[nodiscard]] std::string place(at::Device device) const {
    auto& context = at::globalContext();
    std::string place;
    const auto add = [&](const auto& value) { detail::add_to_key(place, value); };
    add(c10::cuda::getCurrentCUDAStream(device.index()).id());
    add(context.float32Precision(at::Float32Backend::CUDA, at::Float32Op::CONV));
    add(context.float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL));
    add(context.allowFP16ReductionCuBLAS());
    add(context.allowBF16ReductionCuBLAS());
    add(context.benchmarkCuDNN());
    add(context.deterministicCuDNN());
    add(context.deterministicAlgorithms());
    add(context.userEnabledFlashSDP());
    add(context.userEnabledMemEfficientSDP());
    add(context.userEnabledMathSDP());
    add(context.userEnabledCuDNNSDP());
    return place;
  }

  /// Records `work`, whose inputs are complete on the current stream. \throws c10::Error where work waits for the host
  /// or copies to it; the device can be used as before
  [[nodiscard]] Recording record(at::Device device, const std::function<std::vector<at::Tensor>()>& work) const {
    const c10::cuda::CUDAGuard on_device(device);
    const auto current = c10::cuda::getCurrentCUDAStream(device.index());
    const auto side = c10::cuda::getStreamFromPool(false, device.index());
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    std::vector<at::Tensor> outputs;
    {
      c10::cuda::CUDAEvent ready;
      ready.record(current);
      ready.block(side);
      const c10::cuda::CUDAStreamGuard on_side(side);
      for (int i = 0; i < warm_ups; ++i) static_cast<void>(work());
      side.synchronize();
      // What the warm-ups held belongs to the side stream, where nothing else would use it.
      c10::cuda::CUDACachingAllocator::emptyCache();
      const auto pool = at::cuda::graph_pool_handle();
      try {
        graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
        outputs = work();
        graph->capture_end();
      } catch (...) {
        outputs.clear();
        abandon(*graph, device, pool);
        throw;
      }
    }
    return {std::move(graph), std::move(outputs)};
  }

 private:
  /// Ends a recording that failed, so that the device can be used again. After an error of `cudaStreamEndCapture`,
  /// LibTorch 2.11 leaves the rest undone: memory would still be taken from the recording's pool, and the next
  /// `emptyCache` and the next random numbers would fail. Later versions do part of it; what is done already throws.
  static void abandon(at::cuda::CUDAGraph& graph, at::Device device, c10::MempoolId_t pool) {
    const auto quietly = [](auto&& call) {
      try {
        call();
      } catch (const std::exception&) {
        // The caller reports what came first.
      }
    };
    const auto ended = [&] {
      try {
        static_cast<void>(graph.pool());
        return true;  // its destructor gives the pool back
      } catch (const std::exception&) {
        return false;
      }
    };
    if (!ended()) quietly([&] { graph.capture_end(); });
    static_cast<void>(cudaGetLastError());
    if (ended()) return;
    auto* const host = at::getHostAllocator(at::kCUDA);
    quietly([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device.index(), pool); });
    quietly([&] { host->end_allocate_to_pool(pool); });
    quietly([&] { c10::cuda::CUDACachingAllocator::releasePool(device.index(), pool); });
    quietly([&] { host->release_pool(pool); });
    // A recording of nothing, which ends well, takes the random generator out of its state of being recorded.
    quietly([&] {
      at::cuda::CUDAGraph nothing;
      nothing.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      nothing.capture_end();
    });
    static_cast<void>(cudaGetLastError());
  }
};
static_assert(GraphRecorder<CudaGraph>);

}  // namespace ip2p
