#pragma once

/// \file
/// Contract of this folder: how a pipeline's evaluations of its network are carried out.
///
/// A pipeline hands each evaluation to its execution policy, which may do the work now or repeat a recording of it.
/// Recording pays where work is many small launches on an accelerator: the launches are recorded once and then started
/// together.
///
/// Laws (`ip2p::testing::check_execution`):
///  1. the results equal `body(inputs)` bit for bit;
///  2. results are not changed by later evaluations, and inputs are not changed at all;
///  3. an exception of the body reaches the caller, and later evaluations are not affected;
///  4. copies behave alike; one policy may be used by several threads.
///
/// Skeleton:
/// \code
/// struct MyExecution {
///   std::vector<at::Tensor> evaluate(const ip2p::Evaluation& evaluation) const {
///     return evaluation.body(evaluation.inputs);
///   }
/// };
/// static_assert(ip2p::ExecutionPolicy<MyExecution>);
/// \endcode

#include <c10/core/Device.h>

#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Whether an evaluation can be recorded, and what tells recordings apart.
struct Recordable {
  /// What determines the work besides the layout of the inputs: weights, attention, which results are wanted. Equal
  /// keys and layouts mean equal work.
  std::string key;
  std::string obstacle = {};  ///< Why it cannot be recorded, as a clause ("gradients are enabled"); empty: it can.
};

/// One evaluation that a policy carries out.
struct Evaluation {
  /// Does the work on inputs of the layout of `inputs`. It owns what it refers to besides weights, which it may read
  /// but not write.
  using Body = std::function<std::vector<at::Tensor>(std::span<const at::Tensor> inputs)>;

  std::vector<at::Tensor> inputs;  ///< Every tensor that the work reads besides weights; all defined.
  /// This many inputs, the last ones, are never written to. If one is the same part of the same storage as before, it
  /// has the same values.
  std::size_t constant = 0;
  Body body;  ///< The work.
  /// Asked only by policies that record.
  std::function<Recordable()> recordable;
};

/// How evaluations are carried out.
///
///     std::vector<at::Tensor> evaluate(const Evaluation& evaluation) const;   // what evaluation.body returns
template <class Execution>
concept ExecutionPolicy = std::copy_constructible<Execution> &&
    requires(const Execution& execution, const Evaluation& evaluation) {
  { execution.evaluate(evaluation) } -> std::same_as<std::vector<at::Tensor>>;
};

/// Fails to compile, with a one-sentence message, unless `Execution` is an `ExecutionPolicy`.
template <class Execution>
consteval void require_execution_policy() {
  static_assert(ExecutionPolicy<Execution>,
                "ip2p: ExecutionPolicy needs `std::vector<Tensor> evaluate(const Evaluation&) const`; see "
                "docs/reference/concepts.md#executionpolicy");
}

/// Records work on a device, for `Graphed`.
///
///     std::string obstacle(at::Device device) const;   // why work there cannot be recorded, as a clause; or empty
///     std::string place(at::Device device) const;      // what else tells recordings apart: the current stream, and
///                                                       // settings of the process that change results
///     Recording record(at::Device device, const std::function<std::vector<at::Tensor>()>& work) const;
///
/// where a `Recording` has `void replay()`, which repeats the work on the tensors that it read when recorded, and
/// `const std::vector<at::Tensor>& outputs()`, the same tensors after every replay; their values are undefined before
/// the first. `record` may run the work several times. If recording fails it throws, and leaves the device usable.
template <class Recorder>
concept GraphRecorder = std::copy_constructible<Recorder> &&
    requires(const Recorder& recorder, at::Device device, const std::function<std::vector<at::Tensor>()>& work) {
  { recorder.obstacle(device) } -> std::convertible_to<std::string>;
  { recorder.place(device) } -> std::convertible_to<std::string>;
  recorder.record(device, work).replay();
  { recorder.record(device, work).outputs() } -> std::convertible_to<const std::vector<at::Tensor>&>;
};

/// Fails to compile, with a one-sentence message, unless `Recorder` is a `GraphRecorder`.
template <class Recorder>
consteval void require_graph_recorder() {
  static_assert(GraphRecorder<Recorder>,
                "ip2p: GraphRecorder needs `std::string obstacle(Device) const`, `std::string place(Device) const` and "
                "`record(Device, const std::function<std::vector<Tensor>()>&) const`, whose result has `replay()` and "
                "`outputs()`; see docs/reference/concepts.md#graphrecorder");
}

}  // namespace ip2p
