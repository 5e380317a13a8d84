#pragma once

/// \file
/// Combines a network with its conditionings into the branch-wise network that guidance evaluates.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/autocast.hpp"
#include "ip2p/core/branch.hpp"
#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/execution/any_execution.hpp"
#include "ip2p/kernels/table.hpp"
#include "ip2p/pipeline/branch_evaluation.hpp"
#include "ip2p/pipeline/fused_steps.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Steps between checks that predictions are finite. On an accelerator each check makes the host wait, so there are
/// few; on a CPU checking is free, and stopping at once saves time.
inline std::int64_t steps_between_checks(at::Device device) { return device.is_cpu() ? 1 : 16; }

/// Evaluates a step's branches in one batch: each with the text or the null text, and with the image latents or zeros.
///
/// What depends only on the conditionings or the timesteps is computed once per run: keys and values of the text for
/// each set of branches, and the projections of the time embedding for the timesteps of `prepare()`. Branches with the
/// same input share their evaluation up to the first text cross-attention, if the network and the attention policy
/// (`uniform_over_branches`) allow it. Features that one step leaves to the next ones (`DeepCache`) are kept for each
/// set of branches.
///
/// Non-finite predictions are reported with the name of the first layer that produced one. The check runs every
/// `check_every` evaluations, and at the end in `finish()`.
template <class Network, class Attention = PlainAttention>
class BranchNetwork {
  static_assert((require_denoising_network<Network>(), require_attention_policy<Attention>(), true));

 public:
  /// \param execution carries out the evaluations
  /// \throws Error when the shapes of texts and null texts do not match
  BranchNetwork(Network unet, Conditioning conditioning, Attention attention = {}, AnyExecution execution = {})
      : parts_(std::make_shared<const Parts>(Parts{std::move(unet), std::move(attention)})),
        given_(std::move(conditioning)),
        execution_(std::move(execution)),
        check_every_(steps_between_checks(parts_->unet.device())) {
    require(
        given_.text.dim() == 3 && (given_.null_text.dim() == 3 || given_.null_text.dim() == 4) &&
            given_.null_text.sizes().slice(given_.null_text.dim() - 3) == given_.text.sizes(),
        "conditioning: expected text [B,tokens,D] and null text of its shape or [steps,B,tokens,D], found {} and {}",
        shape_text(given_.text.sizes()), shape_text(given_.null_text.sizes()));
    for (auto* given : {&given_.text, &given_.null_text, &given_.image}) {
      if (given->defined()) *given = given->to(parts_->unet.device(), parts_->unet.dtype());
    }
    benchmark_convolutions(parts_->unet.device());
  }

  /// Limits how many branches are evaluated together; 0: all. Fewer take less memory but share less work.
  void evaluate_at_once(std::size_t branches) { most_ = branches; }

  /// \param evaluations between checks that predictions are finite, >= 1
  void check_every(std::int64_t evaluations) {
    require(evaluations >= 1, "check_every: expected at least 1 evaluation, found {}", evaluations);
    check_every_ = evaluations;
  }

  /// Ends a run. \throws Error when a prediction was not finite
  void finish() { check_pending(); }

  /// Projects the timesteps of all `sigmas` above 0 in one batch.
  template <class Schedule>
  void prepare(const Schedule& schedule, std::span<const double> sigmas) {
    std::vector<double> timesteps;
    for (const auto sigma : sigmas) {
      if (sigma > 0) timesteps.push_back(schedule.sigma_to_t(sigma));
    }
    if (timesteps.empty()) return;
    const auto all = parts_->unet.project_time(at::tensor(timesteps, at::kFloat));
    auto each = detail::time_table(all, static_cast<std::int64_t>(timesteps.size()));
    for (std::size_t i = 0; i < timesteps.size(); ++i) times_.insert_or_assign(timesteps[i], std::move(each[i]));
  }

  /// \param x [B,C,h,w], scaled by c_in  \param t fractional timestep
  /// \return [branches.size() * B,C,h,w] in the model's dtype, branch-major
  /// \throws Error naming the first layer that produced a non-finite value
  at::Tensor operator()(const at::Tensor& x, double t, const Step& step, std::span<const Branch> branches) {
    if (most_ > 0 && branches.size() > most_) {
      std::vector<at::Tensor> parts;
      for (std::size_t i = 0; i < branches.size(); i += most_) {
        parts.push_back((*this)(x, t, step, branches.subspan(i, std::min(most_, branches.size() - i))));
      }
      return at::cat(parts, 0);
    }
    return evaluate(x, std::nullopt, t, step, branches)[0].to(x.device());
  }

  /// What the input of an evaluation of `branches` consists of, beside latents.
  [[nodiscard]] detail::InputParts input_parts(const Step& step, std::span<const Branch> branches) {
    const auto inputs = inputs_for(branches, step);
    return {static_cast<std::int64_t>(inputs->distinct.size()), inputs->images};
  }

  /// The same evaluation for an input that is already put together of these parts and x
  /// (`detail::libtorch::step_input`), and what follows it, `table.guided_step`, as one piece of work for the execution
  /// policy. All branches are evaluated at once. \param rest of the step's arguments, without predictions
  GuidedStepResult take_step(const at::Tensor& input, double t, const Step& step, std::span<const Branch> branches,
                             const Kernels& table, const GuidedStep& rest) {
    const auto results = evaluate(input, Tail{table, rest}, t, step, branches);
    return {results[0], results[1], results[2]};
  }

 private:
  using Parts = detail::EvaluationParts<Network, Attention>;
  using Inputs = detail::BranchInputs;
  using Work = detail::BranchEvaluation<Network, Attention>;
  static constexpr bool shares = detail::shares_evaluations<Network, Attention>;

  /// A step by one operator, which follows the network.
  struct Tail {
    const Kernels& table;
    const GuidedStep& rest;
  };

  /// An evaluation whose prediction is still unchecked, with everything needed to repeat it.
  struct Pending {
    at::Tensor finite;  ///< Whether the prediction is finite; one element on the device.
    std::vector<at::Tensor> inputs;
    Work work;
  };

  /// Deep features for later steps.
  struct Left {
    at::Tensor features;
    std::int64_t step = 0;
  };

  /// One evaluation. \param x scaled latents, or with a tail the input as a whole
  /// \return on the network's device, predictions or what the tail makes of them; then what concerns only this class
  std::vector<at::Tensor> evaluate(const at::Tensor& x, const std::optional<Tail>& tail, double t, const Step& step,
                                   std::span<const Branch> branches) {
    const auto& unet = parts_->unet;
    auto found = times_.find(t);
    if (found == times_.end()) {
      const auto time = at::full({1}, t, at::TensorOptions(at::kFloat).device(unet.device()));
      found = times_.emplace(t, detail::time_table(unet.project_time(time), 1).front()).first;
    }
    const auto inputs = inputs_for(branches, step);
    const auto copies = tail ? static_cast<std::int64_t>(inputs->distinct.size()) : 1;
    // Features of the same step may not be used again: they belong to another noise level.
    auto& left = left_[key_of(branches)];
    const auto steps_ago = step.index - left.step;
    bool reuse = false;
    if constexpr (detail::ReusesFeatures<Network>) {
      reuse = left.features.defined() && steps_ago > 0 && unet.reuses(steps_ago) &&
              left.features.size(0) * copies == static_cast<std::int64_t>(branches.size()) * x.size(0);
    }

    Work work{.parts = parts_,
              .inputs = inputs,
              .branches = std::vector<Branch>(branches.begin(), branches.end()),
              .step = step,
              .times = found->second.size(),
              .reuse = reuse};
    if (tail) {
      const auto& rest = tail->rest;
      work.tail = {tail->table.guided_step, rest.inputs, rest.noise.defined(), rest.images.defined()};
    }
    auto evaluation = detail::evaluation_of(work, x.to(unet.device(), unet.dtype()), tail ? &tail->rest : nullptr,
                                            left.features, found->second);
    evaluation.recordable = [&] { return recordable(work); };

    auto results = execution_.evaluate(evaluation);
    const std::size_t flag = tail ? 3 : 1;
    pending_.push_back({results[flag], std::move(evaluation.inputs), work});
    if (static_cast<std::int64_t>(pending_.size()) >= check_every_) check_pending();
    if (results.size() > flag + 1) left = {results[flag + 1], step.index};
    return results;
  }

  Recordable recordable(const Work& work) {
    const auto& unet = work.parts->unet;
    if constexpr (!uniform_over_steps<Attention>() || !std::is_empty_v<Attention>) {
      return {.key = {}, .obstacle = "the attention policy may do something else at each step"};
    } else {
      if (at::GradMode::is_enabled()) return {.key = {}, .obstacle = "gradients are enabled"};
      if (at::autocast::is_autocast_enabled(unet.device().type())) return {.key = {}, .obstacle = "autocast is on"};
      const auto fingerprint = current_fingerprint();
      if (!fingerprint) {
        return {.key = {}, .obstacle = "the network does not say what tells its evaluations apart (`fingerprint`)"};
      }
      // A recording holds the kernels of the table that was registered when it was made.
      const auto* table = registered_kernels(unet.device().type());
      const auto tail = work.tail ? fmt::format("{}{:d}{:d}", work.tail->copies, work.tail->noise, work.tail->images)
                                  : std::string("none");
      return {.key = fmt::format("{} {} {:x} {} {} {} {} {} {} {} {}", typeid(Network).name(), typeid(Attention).name(),
                                 *fingerprint, fmt::ptr(table), key_of(work.branches), key_of(work.inputs->distinct),
                                 work.inputs->images.defined(), work.inputs->rows.defined(), tail, work.reuse,
                                 work.times)};
    }
  }

  /// The network's fingerprint, for which it looks at all of its layers: at the first evaluation of a run, and again
  /// when a model has changed, as one does that brings its weights into their final form.
  std::optional<std::uint64_t> current_fingerprint() {
    const auto changes = model_changes();
    if (!fingerprint_ || fingerprint_->changes != changes) {
      fingerprint_ = Taken{.changes = changes, .value = detail::fingerprint_of(parts_->unet)};
    }
    return fingerprint_->value;
  }

  /// A fingerprint, and the number of changes before it was taken.
  struct Taken {
    std::uint64_t changes;
    std::optional<std::uint64_t> value;
  };

  static std::string key_of(std::span<const Branch> branches) {
    std::string key;
    for (const auto& branch : branches) key += static_cast<char>('0' + (branch.text ? 2 : 0) + (branch.image ? 1 : 0));
    return key;
  }

  void check_pending() {
    const auto pending = std::exchange(pending_, {});
    if (pending.empty()) return;
    std::vector<at::Tensor> flags;
    for (const auto& one : pending) flags.push_back(one.finite);
    const auto finite = at::stack(flags).to(at::kCPU);
    const auto* first = finite.template const_data_ptr<bool>();
    const auto bad = std::find(first, first + pending.size(), false) - first;
    if (bad < static_cast<std::ptrdiff_t>(pending.size())) refuse(pending[static_cast<std::size_t>(bad)]);
  }

  std::shared_ptr<const Inputs> inputs_for(std::span<const Branch> branches, const Step& step) {
    const auto key = key_of(branches);
    const bool each_step = given_.null_text.dim() == 4;
    if (each_step) {
      require(step.index < given_.null_text.size(0), "null text: expected one for each of {} steps, found {}",
              step.count, given_.null_text.size(0));
      if (step.index != step_) inputs_.clear();
      step_ = step.index;
    }
    const auto found = inputs_.find(key);
    if (found != inputs_.end()) return found->second;

    const auto null_text = each_step ? given_.null_text.select(0, step.index) : given_.null_text;
    auto inputs = detail::branch_inputs(parts_->unet, given_, null_text, branches, shares);
    return inputs_.emplace(key, std::make_shared<const Inputs>(std::move(inputs))).first->second;
  }

  [[noreturn]] void refuse(const Pending& bad) const {
    const auto& unet = parts_->unet;
    const auto& step = bad.work.step;
    const auto again = [&] { static_cast<void>(bad.work(bad.inputs)); };
    std::string layer;
    try {
      if constexpr (requires { unet.first_non_finite(again); }) layer = unet.first_non_finite(again);
    } catch (const Error&) {
      // A recorder may refuse a step that has ended. The error names the step all the same, but not the layer.
    }
    throw_error("step {} of {}: expected finite values, found NaN or infinity{}{}{}", step.index + 1, step.count,
                layer.empty() ? "" : ", first in unet.", layer,
                unet.dtype() == at::kHalf ? "; fp16 overflows there: use bf16 or fp32" : "");
  }

  std::shared_ptr<const Parts> parts_;
  Conditioning given_;
  AnyExecution execution_;
  std::map<double, TimeProjections> times_;
  std::map<std::string, std::shared_ptr<const Inputs>> inputs_;
  std::map<std::string, Left> left_;  ///< For each set of branches.
  std::vector<Pending> pending_;
  std::optional<Taken> fingerprint_;
  std::int64_t check_every_;
  std::size_t most_ = 0;
  std::int64_t step_ = -1;  ///< Step whose null text `inputs_` hold, if each step has its own.
};

}  // namespace ip2p
