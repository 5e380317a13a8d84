#pragma once

/// \file
/// A network with its conditionings, as the branch-wise network that guidance asks.

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/guidance/concepts.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Answers the branches of a step in one batch: each sees the text or the null text, the image latents or zeros.
///
/// What depends on the conditionings or the timesteps alone is computed once a run: keys and values of the text for
/// each set of branches, and the projections of the time embedding for the timesteps of `prepare()`.
template <DenoisingNetwork Network, AttentionPolicy Attention = PlainAttention>
class BranchNetwork {
 public:
  /// \param text [B,tokens,D]  \param null_text [B,tokens,D], the empty or negative prompt
  /// \param image_latents [B,C,h,w], or undefined for a network without an image input
  BranchNetwork(Network unet, at::Tensor text, at::Tensor null_text, at::Tensor image_latents, Attention attention = {})
      : unet_(std::move(unet)),
        text_(std::move(text)),
        null_text_(std::move(null_text)),
        attention_(std::move(attention)) {
    if (image_latents.defined()) image_latents_ = image_latents.to(unet_.device(), unet_.dtype());
  }

  /// Projects the timesteps of all `sigmas` above 0 in one batch.
  template <SchedulePolicy Schedule>
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

  /// \param x [B,4,h,w], scaled by c_in  \param t fractional timestep
  /// \return [branches.size() * B,4,h,w] in the model's dtype, branch-major
  /// \throws Error naming the first layer that gave a value that is not finite
  at::Tensor operator()(const at::Tensor& x, double t, const Step& at, std::span<const Branch> branches) {
    auto found = times_.find(t);
    if (found == times_.end()) found = times_.emplace(t, unet_.project_time(at::full({1}, t, at::kFloat))).first;
    const auto& conditioning = conditioning_for(branches);
    std::vector<at::Tensor> copies(branches.size(), x.to(unet_.device(), unet_.dtype()));
    auto input = copies.size() == 1 ? copies[0] : at::cat(copies, 0);
    if (conditioning.images.defined()) input = at::cat({input, conditioning.images}, 1);

    const auto evaluate = [&] { return unet_(input, found->second, conditioning.texts, attention_, at); };
    auto output = evaluate();
    if (!at::isfinite(output).all().template item<bool>()) refuse(evaluate, at);
    return output.to(x.device());
  }

 private:
  struct Conditioning {
    ContextProjections texts;
    at::Tensor images;
  };

  const Conditioning& conditioning_for(std::span<const Branch> branches) {
    std::string key;
    for (const auto& branch : branches) key += static_cast<char>('0' + (branch.text ? 2 : 0) + (branch.image ? 1 : 0));
    const auto found = conditionings_.find(key);
    if (found != conditionings_.end()) return found->second;
    std::vector<at::Tensor> texts;
    std::vector<at::Tensor> images;
    for (const auto& branch : branches) {
      texts.push_back(branch.text ? text_ : null_text_);
      if (image_latents_.defined()) images.push_back(branch.image ? image_latents_ : at::zeros_like(image_latents_));
    }
    return conditionings_
        .emplace(key, Conditioning{unet_.project_context(at::cat(texts, 0)),
                                   images.empty() ? at::Tensor() : at::cat(images, 0)})
        .first->second;
  }

  template <class Evaluate>
  [[noreturn]] void refuse(Evaluate&& evaluate, const Step& at) const {
    std::string layer;
    if constexpr (requires { unet_.first_non_finite(evaluate); }) layer = unet_.first_non_finite(evaluate);
    fail("step {} of {}: expected finite values, found NaN or infinity{}{}{}", at.index + 1, at.count,
         layer.empty() ? "" : ", first in unet.", layer,
         unet_.dtype() == at::kHalf ? "; fp16 overflows there: use bf16 or fp32" : "");
  }

  Network unet_;
  at::Tensor text_, null_text_, image_latents_;
  Attention attention_;
  std::map<double, TimeProjections> times_;
  std::map<std::string, Conditioning> conditionings_;
};

}  // namespace ip2p
