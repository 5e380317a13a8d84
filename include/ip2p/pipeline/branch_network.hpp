#pragma once

/// \file
/// Combines a network with its conditionings into the branch-wise network that guidance evaluates.

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/guidance/concepts.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Conditionings of a run.
struct Conditioning {
  at::Tensor text;  ///< [B,tokens,D].
  /// Encoding of the empty or negative prompt: [B,tokens,D], or [S,B,tokens,D] with one per step of the run (null-text
  /// optimisation).
  at::Tensor null_text;
  at::Tensor image = {};  ///< [B,C,h,w], extra input channels of the network; undefined if it has none.
};

namespace detail {

/// Tells the attention policy which branches the rows belong to: all of them, or before the first text cross-attention
/// one per distinct input.
template <class Attention>
struct BranchAttention {
  const Attention& attend;
  std::span<const Branch> all, distinct;
  std::int64_t batch;
  AttentionMemory* memory;

  at::Tensor operator()(AttentionSite site, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
    site.memory = memory;
    site.branches = q.size(0) == static_cast<std::int64_t>(all.size()) * batch ? all : distinct;
    return attend(site, q, k, v);
  }
};

}  // namespace detail

/// Steps between checks that predictions are finite. On an accelerator each check makes the host wait, so there are
/// few; on a CPU checking is free, and stopping at once saves time.
inline std::int64_t steps_between_checks(at::Device device) { return device.is_cpu() ? 1 : 16; }

/// Evaluates a step's branches in one batch: each with the text or the null text, and with the image latents or zeros.
///
/// What depends only on the conditionings or the timesteps is computed once per run: keys and values of the text for
/// each set of branches, and the projections of the time embedding for the timesteps of `prepare()`. Branches with the
/// same input share their evaluation up to the first text cross-attention, if the network and the attention policy
/// (`uniform_over_branches`) allow it.
///
/// Non-finite predictions are reported with the name of the first layer that produced one. The check runs every
/// `check_every` evaluations, and at the end in `finish()`.
template <class Network, class Attention = PlainAttention>
class BranchNetwork {
  static_assert((require_denoising_network<Network>(), require_attention_policy<Attention>(), true));

 public:
  /// \throws Error when the shapes of texts and null texts do not match
  BranchNetwork(Network unet, Conditioning conditioning, Attention attention = {})
      : unet_(std::move(unet)),
        given_(std::move(conditioning)),
        attention_(std::move(attention)),
        check_every_(steps_between_checks(unet_.device())) {
    require(
        given_.text.dim() == 3 && (given_.null_text.dim() == 3 || given_.null_text.dim() == 4) &&
            given_.null_text.sizes().slice(given_.null_text.dim() - 3) == given_.text.sizes(),
        "conditioning: expected text [B,tokens,D] and null text of its shape or [steps,B,tokens,D], found {} and {}",
        shape_text(given_.text.sizes()), shape_text(given_.null_text.sizes()));
    for (auto* given : {&given_.text, &given_.null_text, &given_.image}) {
      if (given->defined()) *given = given->to(unet_.device(), unet_.dtype());
    }
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
    const auto all = unet_.project_time(at::tensor(timesteps, at::kFloat));
    for (std::size_t i = 0; i < timesteps.size(); ++i) {
      auto& one = times_[timesteps[i]];
      one.clear();
      for (const auto& projection : all) one.push_back(projection.narrow(0, static_cast<std::int64_t>(i), 1));
    }
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
    auto found = times_.find(t);
    if (found == times_.end()) {
      const auto time = at::full({1}, t, at::TensorOptions(at::kFloat).device(unet_.device()));
      found = times_.emplace(t, unet_.project_time(time)).first;
    }
    const auto inputs = inputs_for(branches, step);
    std::vector<at::Tensor> copies(inputs->distinct.size(), x.to(unet_.device(), unet_.dtype()));
    auto input = copies.size() == 1 ? copies[0] : at::cat(copies, 0);
    if (inputs->images.defined()) input = at::cat({input, inputs->images}, 1);

    auto output = evaluate(input, found->second, *inputs, branches, step);
    pending_.push_back({at::isfinite(output).all(), input, &found->second, inputs,
                        std::vector<Branch>(branches.begin(), branches.end()), step});
    if (static_cast<std::int64_t>(pending_.size()) >= check_every_) check_pending();
    return output.to(x.device());
  }

 private:
  using Attend = detail::BranchAttention<Attention>;
  static constexpr bool shares = uniform_over_branches<Attention>() &&
                                 requires(const Network& unet, const at::Tensor& x, const TimeProjections& times,
                                          const ContextProjections& texts, const Attend& attend, const Step& step) {
    unet(x, times, texts, attend, step, x);
  };

  /// Network inputs for a set of branches.
  struct Inputs {
    ContextProjections texts;
    at::Tensor images;
    std::vector<Branch> distinct;  ///< The first branch with each distinct input; one row of x each.
    at::Tensor rows;               ///< Input row of each prediction; undefined if they match one to one.
  };

  /// An evaluation whose prediction is still unchecked, with everything needed to repeat it.
  struct Pending {
    at::Tensor finite;  ///< Whether the prediction is finite; one element on the device.
    at::Tensor input;
    const TimeProjections* times;
    std::shared_ptr<const Inputs> inputs;
    std::vector<Branch> branches;
    Step step;
  };

  at::Tensor evaluate(const at::Tensor& input, const TimeProjections& times, const Inputs& inputs,
                      std::span<const Branch> branches, const Step& step) const {
    const auto rows = static_cast<std::int64_t>(inputs.distinct.size());
    const Attend attend{attention_, branches, inputs.distinct, input.size(0) / rows, memory_.get()};
    if constexpr (shares) {
      return unet_(input, times, inputs.texts, attend, step, inputs.rows);
    } else {
      return unet_(input, times, inputs.texts, attend, step);
    }
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
    std::string key;
    for (const auto& branch : branches) key += static_cast<char>('0' + (branch.text ? 2 : 0) + (branch.image ? 1 : 0));
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
    const auto batch = given_.text.size(0);
    Inputs inputs;
    std::vector<at::Tensor> texts;
    std::vector<at::Tensor> images;
    std::vector<std::int64_t> rows;
    for (const auto& branch : branches) {
      texts.push_back(branch.text ? given_.text : null_text);
      std::size_t same = shares ? 0 : inputs.distinct.size();
      while (same < inputs.distinct.size() && given_.image.defined() && inputs.distinct[same].image != branch.image) {
        ++same;
      }
      if (same == inputs.distinct.size()) {
        inputs.distinct.push_back(branch);
        if (given_.image.defined()) images.push_back(branch.image ? given_.image : at::zeros_like(given_.image));
      }
      for (std::int64_t i = 0; i < batch; ++i) rows.push_back(static_cast<std::int64_t>(same) * batch + i);
    }
    inputs.texts = unet_.project_context(at::cat(texts, 0));
    if (!images.empty()) inputs.images = at::cat(images, 0);
    if (inputs.distinct.size() < branches.size()) {
      inputs.rows = detail::to_device(at::tensor(rows, at::kLong), unet_.device());
    }
    return inputs_.emplace(key, std::make_shared<const Inputs>(std::move(inputs))).first->second;
  }

  [[noreturn]] void refuse(const Pending& bad) const {
    const auto again = [&] { return evaluate(bad.input, *bad.times, *bad.inputs, bad.branches, bad.step); };
    std::string layer;
    try {
      if constexpr (requires { unet_.first_non_finite(again); }) layer = unet_.first_non_finite(again);
    } catch (const Error&) {
      // What records a run may refuse a step that is over. The step is known all the same.
    }
    throw_error("step {} of {}: expected finite values, found NaN or infinity{}{}{}", bad.step.index + 1,
                bad.step.count, layer.empty() ? "" : ", first in unet.", layer,
                unet_.dtype() == at::kHalf ? "; fp16 overflows there: use bf16 or fp32" : "");
  }

  Network unet_;
  Conditioning given_;
  Attention attention_;
  std::map<double, TimeProjections> times_;
  std::map<std::string, std::shared_ptr<const Inputs>> inputs_;
  std::unique_ptr<AttentionMemory> memory_ = std::make_unique<AttentionMemory>();
  std::vector<Pending> pending_;
  std::int64_t check_every_;
  std::size_t most_ = 0;
  std::int64_t step_ = -1;  ///< Step whose null text `inputs_` hold, if each step has its own.
};

}  // namespace ip2p
