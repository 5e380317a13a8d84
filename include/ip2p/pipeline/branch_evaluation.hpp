#pragma once

/// \file
/// One evaluation of a network for the branches of a step, as a function of tensors, so that it can be recorded.

#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/attention/attention_memory.hpp"
#include "ip2p/attention/concepts.hpp"
#include "ip2p/core/branch.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/execution/concepts.hpp"
#include "ip2p/kernels/table.hpp"
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

/// Splits projections of several timesteps, each [steps, ...], into those of each step, [1, ...]. If they have one
/// dtype, those of a step lie together in one row of a table, from where a recording takes them in one copy.
inline std::vector<TimeProjections> time_table(const TimeProjections& all, std::int64_t steps) {
  constexpr std::int64_t alignment = 64;  // in elements, for vector instructions
  std::vector<std::int64_t> starts;
  std::int64_t length = 0;
  bool together = true;
  for (const auto& projection : all) {
    together = together && projection.scalar_type() == all[0].scalar_type() && projection.device() == all[0].device();
    starts.push_back(length);
    length += (projection.numel() / steps + alignment - 1) / alignment * alignment;
  }
  std::vector<TimeProjections> each(static_cast<std::size_t>(steps));
  // With a row more than needed, strides are the same for a single step as for many, and so is the recording.
  const auto table = together && !all.empty() ? at::zeros({steps + 1, length}, all[0].options()) : at::Tensor();
  for (std::size_t p = 0; p < all.size(); ++p) {
    auto values = all[p];
    if (table.defined()) {
      auto sizes = values.sizes().vec();
      sizes[0] = steps + 1;
      const auto place = table.narrow(1, starts[p], values.numel() / steps).view(sizes);
      place.narrow(0, 0, steps).copy_(values);
      values = place;
    }
    for (std::int64_t i = 0; i < steps; ++i) each[static_cast<std::size_t>(i)].push_back(values.narrow(0, i, 1));
  }
  return each;
}

/// Whether branches with the same input share their evaluation up to the first text cross-attention.
template <class Network, class Attention>
inline constexpr bool shares_evaluations = uniform_over_branches<Attention>() &&
                                           requires(const Network& unet, const at::Tensor& x,
                                                    const TimeProjections& times, const ContextProjections& texts,
                                                    const BranchAttention<Attention>& attend, const Step& step) {
  unet(x, times, texts, attend, step, x);
};

/// What all evaluations of a run use. Recordings may outlive the run.
template <class Network, class Attention>
struct EvaluationParts {
  Network unet;
  Attention attention;
  std::unique_ptr<AttentionMemory> memory = std::make_unique<AttentionMemory>();
};

/// Network inputs for a set of branches.
struct BranchInputs {
  ContextProjections texts;
  at::Tensor images;
  std::vector<Branch> distinct;  ///< The first branch with each distinct input; one row of x each.
  at::Tensor rows;               ///< Input row of each prediction; undefined if they match one to one.
};

/// The inputs for `branches`. \param null_text [B,tokens,D], of the step
/// \param share whether branches with the same input get one row of x, as `shares_evaluations` says
template <class Network>
BranchInputs branch_inputs(const Network& unet, const Conditioning& given, const at::Tensor& null_text,
                           std::span<const Branch> branches, bool share) {
  const auto batch = given.text.size(0);
  BranchInputs inputs;
  std::vector<at::Tensor> texts;
  std::vector<at::Tensor> images;
  std::vector<std::int64_t> rows;
  for (const auto& branch : branches) {
    texts.push_back(branch.text ? given.text : null_text);
    std::size_t same = share ? 0 : inputs.distinct.size();
    while (same < inputs.distinct.size() && given.image.defined() && inputs.distinct[same].image != branch.image) {
      ++same;
    }
    if (same == inputs.distinct.size()) {
      inputs.distinct.push_back(branch);
      if (given.image.defined()) images.push_back(branch.image ? given.image : at::zeros_like(given.image));
    }
    for (std::int64_t i = 0; i < batch; ++i) rows.push_back(static_cast<std::int64_t>(same) * batch + i);
  }
  inputs.texts = unet.project_context(at::cat(texts, 0));
  if (!images.empty()) inputs.images = at::cat(images, 0);
  if (inputs.distinct.size() < branches.size()) {
    inputs.rows = to_device(at::tensor(rows, at::kLong), unet.device());
  }
  return inputs;
}

/// Which tensors `Kernels::guided_step` is given after the network.
struct StepTail {
  GuidedStepResult (*operation)(const GuidedStep&) = nullptr;
  std::int64_t copies = 1;
  bool noise = false;
  bool images = false;
};

/// The evaluation of a step, as a function of tensors. Without a tail: x and the images of `inputs` if defined; the
/// constants below. It gives the predictions, whether they are finite, and deep features if it makes some. With a
/// tail: the input that x and images make up; latents, and noise if there is some; coefficients, and images of the
/// next input if there are some; the constants. It gives what the tail gives in the predictions' place. Constants are
/// the rows of `inputs` if defined, deep features if `reuse`, time projections, and keys and values of the texts.
template <class Network, class Attention>
struct BranchEvaluation {
  std::shared_ptr<const EvaluationParts<Network, Attention>> parts;
  std::shared_ptr<const BranchInputs> inputs;  ///< Says which tensors there are; the values come with the call.
  std::vector<Branch> branches;
  Step step;
  std::size_t times = 0;
  std::optional<StepTail> tail = {};
  bool reuse = false;

  /// Carries it out. \param given as above
  std::vector<at::Tensor> operator()(std::span<const at::Tensor> given) const {
    auto next = given.begin();
    auto input = *next++;
    GuidedStep call;
    if (tail) {
      call.latents = *next++;
      if (tail->noise) call.noise = *next++;
      call.coefficients = *next++;
      if (tail->images) call.images = *next++;
      call.inputs = tail->copies;
    } else {
      const std::vector<at::Tensor> copies(inputs->distinct.size(), input);
      if (copies.size() > 1) input = at::cat(copies, 0);
      if (inputs->images.defined()) input = at::cat({input, *next++}, 1);
    }
    const auto rows = inputs->rows.defined() ? *next++ : at::Tensor();
    auto deep = reuse ? *next++ : at::Tensor();
    const TimeProjections time(next, next + static_cast<std::ptrdiff_t>(times));
    next += static_cast<std::ptrdiff_t>(times);
    ContextProjections texts;
    for (; next != given.end(); next += 2) texts.push_back({next[0], next[1]});

    const auto count = static_cast<std::int64_t>(inputs->distinct.size());
    const BranchAttention<Attention> attend{parts->attention, branches, inputs->distinct, input.size(0) / count,
                                            parts->memory.get()};
    const auto& unet = parts->unet;
    at::Tensor output;
    if constexpr (ReusesFeatures<Network>) {
      output = unet(input, time, texts, attend, step, rows, deep);
    } else if constexpr (shares_evaluations<Network, Attention>) {
      output = unet(input, time, texts, attend, step, rows);
    } else {
      output = unet(input, time, texts, attend, step);
    }
    std::vector<at::Tensor> results;
    if (tail) {
      call.predictions = output;
      auto taken = tail->operation(call);
      results = {std::move(taken.latents), std::move(taken.estimate), std::move(taken.input)};
    } else {
      results = {output};
    }
    results.push_back(at::isfinite(output).all());
    if (deep.defined() && !reuse) results.push_back(deep);
    return results;
  }
};

/// `work` with the tensors that it is a function of, in its order. `recordable` is left to the caller.
/// \param input x, or with a tail the input as a whole; on the network's device
/// \param rest of the tail's arguments, without predictions; null without a tail  \param deep read if `work.reuse`
template <class Network, class Attention>
Evaluation evaluation_of(const BranchEvaluation<Network, Attention>& work, const at::Tensor& input,
                         const GuidedStep* rest, const at::Tensor& deep, const TimeProjections& times) {
  Evaluation evaluation;
  const auto give = [&](const at::Tensor& tensor) { evaluation.inputs.push_back(tensor); };
  give(input);
  std::size_t changing = 1;
  if (rest != nullptr) {
    give(rest->latents);
    if (rest->noise.defined()) give(rest->noise);
    changing = evaluation.inputs.size();
    give(rest->coefficients);
    if (rest->images.defined()) give(rest->images);
  } else if (work.inputs->images.defined()) {
    give(work.inputs->images);
  }
  if (work.inputs->rows.defined()) give(work.inputs->rows);
  if (work.reuse) give(deep);
  for (const auto& time : times) give(time);
  for (const auto& text : work.inputs->texts) {
    give(text.keys);
    give(text.values);
  }
  evaluation.constant = evaluation.inputs.size() - changing;
  evaluation.body = work;
  return evaluation;
}

}  // namespace detail

}  // namespace ip2p
