#pragma once

/// \file
/// A recorder for `Graphed` on any device, for tests of what surrounds the recording.

#include <c10/core/Device.h>

#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/execution/concepts.hpp"

namespace ip2p::testing {

/// Keeps the work itself and runs it again to replay it, on the tensors that it read and wrote when it was recorded. As
/// with a CUDA graph, results lie in the same place after every replay and have no meaning before the first; what the
/// work knows besides its inputs is as it was when recorded.
struct RerunRecorder {
  /// Work that can be run again.
  class Recording {
   public:
    /// Runs `work` once, to learn the results' layout.
    explicit Recording(std::function<std::vector<at::Tensor>()> work) : work_(std::move(work)) {
      for (const auto& result : work_()) {
        outputs_.push_back(result.clone());
        if (result.is_floating_point()) {
          outputs_.back().fill_(std::numeric_limits<double>::quiet_NaN());
        } else {
          outputs_.back().zero_();
        }
      }
    }
    /// Runs the work and writes its results to `outputs()`.
    void replay() {
      const auto results = work_();
      for (std::size_t i = 0; i < outputs_.size(); ++i) outputs_[i].copy_(results[i]);
    }
    /// Where the results are.
    [[nodiscard]] const std::vector<at::Tensor>& outputs() const { return outputs_; }

   private:
    std::function<std::vector<at::Tensor>()> work_;
    std::vector<at::Tensor> outputs_;
  };

  /// None, on any device.
  [[nodiscard]] std::string obstacle(at::Device) const { return {}; }
  /// One for all.
  [[nodiscard]] std::string place(at::Device) const { return {}; }
  /// Keeps `work`.
  [[nodiscard]] Recording record(at::Device, const std::function<std::vector<at::Tensor>()>& work) const {
    return Recording(work);
  }
};
static_assert(GraphRecorder<RerunRecorder>);

}  // namespace ip2p::testing
