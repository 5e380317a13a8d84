#pragma once

/// \file
/// Runs whose steps are one fused operator each, from the predictions of all branches to the network's next input.

#include <ATen/ops/tensor.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/core/branch.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/guidance/concepts.hpp"
#include "ip2p/kernels/table.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p::detail {

/// Whether, as far as their types tell, runs with this guidance and sampler can be fused: the guidance is a weighted
/// sum of the network's predictions and nothing else, and the sampler may be of Euler's family.
template <class Guidance, class Sampler>
inline constexpr bool may_fuse_steps = LinearGuidancePolicy<Guidance> && !SeesLatents<Guidance> &&
                                       !over_estimates<Guidance>() && EulerFamilySampler<Sampler>;

/// The table of fused operators that was registered for a device, if it has a step of its own; else null. LibTorch's
/// form of the step is slower than the arithmetic of guidance and sampler themselves.
inline const Kernels* table_with_step(at::Device device) {
  const auto* table = registered_kernels(device.type());
  return table != nullptr && table->guided_step != libtorch_kernels().guided_step ? table : nullptr;
}

/// A step of such a run.
struct FusedStep {
  Step step;
  double timestep = 0.0;
  std::vector<Branch> branches = {};  ///< Those with weight.
  EulerForm form = {};
  std::vector<float> coefficients = {};  ///< As `GuidedStep::coefficients`.
};

/// The steps of a run over `sigmas`; none if the sampler, as it is configured, is not of Euler's family at each.
/// \throws Error for noise levels, sampler or weights that are out of range, as the run itself would
template <class Guidance, class Sampler, class Diffusion>
std::vector<FusedStep> fused_steps(const Guidance& guidance, const Sampler& sampler, const Diffusion& diffusion,
                                   std::span<const double> sigmas) {
  require_sigmas(sigmas);
  std::vector<FusedStep> all;
  for (const auto& step : steps_of(sigmas)) {
    const auto form = sampler.euler_form(step);
    if (!form) return {};
    const auto [c_in, c_skip, c_out] = diffusion.prediction.preconditioning(step.sigma);
    // Nothing is evaluated at noise level 0.
    const double next = step.sigma_next > 0.0 ? diffusion.prediction.preconditioning(step.sigma_next).c_in : 1.0;
    FusedStep fused{.step = step, .timestep = diffusion.schedule.sigma_to_t(step.sigma), .form = *form};
    for (const double number : {c_skip, c_out, (form->down - step.sigma) / step.sigma, form->up, next}) {
      fused.coefficients.push_back(static_cast<float>(number));
    }
    const auto needed = needed_branches(guidance, step);
    const auto weights = guidance.weights(step);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      if (!needed[k]) continue;
      fused.branches.push_back(Guidance::branches[k]);
      fused.coefficients.push_back(static_cast<float>(weights[k]));
    }
    require(!fused.branches.empty(), "guidance: expected a branch of non-zero weight, found none");
    all.push_back(std::move(fused));
  }
  return all;
}

/// What the input of an evaluation consists of: latents, `copies` times along the batch, then `images` as further
/// channels.
struct InputParts {
  std::int64_t copies = 1;
  at::Tensor images;  ///< Undefined for none.
};

/// What a fused run needs from its caller.
struct FusedRun {
  /// The parts of a step's input.
  std::function<InputParts(const FusedStep&)> parts;
  /// Evaluates the network for a step's input as a whole, and calls the operator with its predictions and `rest`.
  std::function<GuidedStepResult(const at::Tensor& input, const FusedStep&, const GuidedStep& rest)> take;
  /// The noise that a step adds to latents like x.
  std::function<at::Tensor(const at::Tensor& x, const Step&)> noise;
  const RunHooks& hooks;  ///< Without `revise`: the network's next input is ready before it could be asked.
};

/// Denoises x, one call of `Kernels::guided_step` a step. Up to rounding the result is that of guidance and sampler.
/// \param x [B,C,h,w], fp32, at the first step's noise level  \param first_scale c_in there
/// \param dtype of the network  \return [B,C,h,w] at noise level 0
inline at::Tensor run_fused(const FusedRun& run, const std::vector<FusedStep>& steps, double first_scale, at::Tensor x,
                            at::ScalarType dtype) {
  // The numbers of all steps in one transfer; rows of one length, of which steps with fewer branches use the beginning.
  // Each begins at a multiple of 64 bytes: to a recording, tensors of another alignment are other inputs.
  constexpr std::size_t alignment = 64 / sizeof(float);
  std::size_t width = 0;
  for (const auto& step : steps) width = std::max(width, step.coefficients.size());
  width = (width + alignment - 1) / alignment * alignment;
  std::vector<float> numbers;
  for (const auto& step : steps) {
    numbers.insert(numbers.end(), step.coefficients.begin(), step.coefficients.end());
    numbers.resize((numbers.size() + width - 1) / width * width);
  }
  const auto count = static_cast<std::int64_t>(steps.size());
  const auto coefficients = to_device(at::tensor(numbers, at::kFloat).view({count, -1}), x.device());

  x = x.contiguous();
  at::Tensor input;
  at::Tensor noise;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& now = steps[static_cast<std::size_t>(i)];
    run.hooks.check(now.step);
    if (i == 0) {
      const auto [copies, images] = run.parts(now);
      input = libtorch::step_input(x.mul(first_scale).to(dtype), copies, images);
    }
    // The last step makes an input that nothing reads, and a step without noise is given what it multiplies by 0, so
    // that one recording serves all steps.
    const auto next = run.parts(steps[static_cast<std::size_t>(std::min(i + 1, count - 1))]);
    if (now.form.up > 0.0) noise = run.noise(x, now.step);
    GuidedStep rest;
    rest.latents = x;
    rest.noise = noise;
    rest.images = next.images;
    rest.coefficients = coefficients.select(0, i).narrow(0, 0, static_cast<std::int64_t>(now.coefficients.size()));
    rest.inputs = next.copies;
    auto result = run.take(input, now, rest);
    // A step to noise level 0 ends at the estimate itself, without rounding error.
    x = now.form.down == 0.0 && now.form.up == 0.0 ? result.estimate : result.latents;
    input = std::move(result.input);
    x = run.hooks.finish(now.step, x);
  }
  return x;
}

}  // namespace ip2p::detail
