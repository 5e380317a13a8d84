#pragma once

/// \file
/// Gradient checkpointing (Chen et al. 2016): a segment of a network stores only its inputs and is evaluated again in
/// the backward pass.

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/segment.hpp"

namespace ip2p {

namespace detail {

/// The global state that affects a segment: autocast and the default random generators.
class Surroundings {
 public:
  explicit Surroundings(at::Device device)
      : device_(device),
        autocast_(at::autocast::is_autocast_enabled(device.type())),
        autocast_dtype_(at::autocast::get_autocast_dtype(device.type())) {
    for (auto generator : generators()) {
      const std::scoped_lock lock(generator.mutex());
      states_.push_back(generator.get_state());
    }
  }

  /// Calls `work` with the global state as it was when this object was made, then restores the current state.
  template <class Work>
  at::Tensor recreate(Work&& work) const {
    const Surroundings now(device_);
    apply();
    at::autocast::increment_nesting();
    const auto restore = [&] {
      if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
      now.apply();
    };
    try {
      auto result = work();
      restore();
      return result;
    } catch (...) {
      restore();
      throw;
    }
  }

 private:
  [[nodiscard]] std::vector<at::Generator> generators() const {
    std::vector<at::Generator> all{at::globalContext().defaultGenerator(at::kCPU)};
    if (!device_.is_cpu()) all.push_back(at::globalContext().defaultGenerator(device_));
    return all;
  }

  void apply() const {
    at::autocast::set_autocast_enabled(device_.type(), autocast_);
    at::autocast::set_autocast_dtype(device_.type(), autocast_dtype_);
    auto all = generators();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::scoped_lock lock(all[i].mutex());
      all[i].set_state(states_[i]);
    }
  }

  at::Device device_;
  bool autocast_;
  at::ScalarType autocast_dtype_;
  std::vector<at::Tensor> states_;
};

/// What the autograd node stores besides saved tensors.
struct CheckpointedSegment : torch::CustomClassHolder {
  Segment segment;
  std::vector<at::Tensor> weights;
  std::vector<bool> differentiable;  ///< Whether each input requires gradients.
  Surroundings surroundings;

  CheckpointedSegment(Segment segment_, at::TensorList weights_, at::TensorList inputs)
      : segment(std::move(segment_)), weights(weights_.vec()), surroundings(inputs.front().device()) {
    for (const auto& input : inputs) differentiable.push_back(input.requires_grad());
  }
};

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const c10::intrusive_ptr<CheckpointedSegment>& held, at::TensorList inputs,
                            at::TensorList /* weights: they are here to become parents of the result */) {
    context->save_for_backward(inputs.vec());
    context->saved_data["held"] = c10::IValue::make_capsule(held);
    // With a graph, which is dropped at once, so that layers compute as they do when the segment is evaluated again:
    // what they fuse without a graph is rounded differently.
    const at::AutoGradMode with_graph(true);
    return held->segment(inputs).variable_data();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradient) {
    const auto held =
        c10::static_intrusive_pointer_cast<CheckpointedSegment>(context->saved_data.at("held").toCapsule());
    auto inputs = context->get_saved_variables();
    torch::autograd::variable_list wanted;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = inputs[i].detach().requires_grad_(held->differentiable[i]);
      if (held->differentiable[i]) wanted.push_back(inputs[i]);
    }
    wanted.insert(wanted.end(), held->weights.begin(), held->weights.end());
    at::Tensor output;
    {
      const at::AutoGradMode with_graph(true);
      output = held->surroundings.recreate([&] { return held->segment(inputs); });
    }
    const auto found = torch::autograd::grad({output}, wanted, gradient, /*retain_graph=*/false,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    torch::autograd::variable_list result{at::Tensor()};  // for `held`
    std::size_t next = 0;
    for (const bool differentiable : held->differentiable) {
      result.push_back(differentiable ? found[next++] : at::Tensor());
    }
    result.insert(result.end(), found.begin() + static_cast<std::ptrdiff_t>(next), found.end());
    return result;
  }
};

}  // namespace detail

/// Returns segment(inputs). Its backward pass evaluates the segment again instead of storing intermediate results, with
/// autocast and the default random generators restored to their earlier state. The gradients are the same, except for
/// the order of summation if a tensor is used both inside and outside. Without gradients this is a plain call.
///
/// \param inputs the segment's arguments; at least one tensor
/// \param weights leaves that the segment uses besides; those that do not require gradients are treated as constants
inline at::Tensor checkpointed(Segment segment, at::TensorList inputs, at::TensorList weights) {
  const auto asks = [](const at::Tensor& tensor) { return tensor.requires_grad(); };
  std::vector<at::Tensor> trained;
  std::copy_if(weights.begin(), weights.end(), std::back_inserter(trained), asks);
  const bool any = !trained.empty() || std::any_of(inputs.begin(), inputs.end(), asks);
  if (!at::GradMode::is_enabled() || !any) return segment(inputs);
  const auto held = c10::make_intrusive<detail::CheckpointedSegment>(std::move(segment), trained, inputs);
  return detail::CheckpointFunction::apply(held, inputs, at::TensorList(trained));
}

}  // namespace ip2p
