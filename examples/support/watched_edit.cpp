#include "watched_edit.hpp"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/codec/linear_preview.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/sampling/show_estimates.hpp"

namespace example {
namespace {

using Network = ip2p::BranchNetwork<ip2p::AnyNetwork, ip2p::PlainAttention>;

/// The pipeline's sampler for rows that may be given up on the way. The rows that are left get a network of their own.
struct WantedRows {
  const ip2p::Editor& edit;
  const ip2p::Conditioning& conditioning;
  const std::function<bool(std::size_t)>& wanted;
  ip2p::ShowEstimates<ip2p::AnySampler> base;

  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& all, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const ip2p::RunHooks& hooks = {}) const {
    const auto count = x.size(0);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) rows[static_cast<std::size_t>(i)] = i;
    std::optional<Network> network;
    const auto drop = [&] {
      const auto unwanted = [&](std::int64_t row) { return wanted && !wanted(static_cast<std::size_t>(row)); };
      if (std::erase_if(rows, unwanted) == 0) return;
      if (rows.empty()) throw ip2p::Cancelled("cancelled: no result is wanted any more");
      const auto some = at::tensor(rows);
      const auto take = [&](const at::Tensor& of) { return of.index_select(0, some.to(of.device())); };
      network.emplace(edit.unet(),
                      ip2p::Conditioning{.text = take(conditioning.text),
                                         .null_text = take(conditioning.null_text),
                                         .image = take(conditioning.image)},
                      ip2p::PlainAttention{}, edit.execution);
      network->evaluate_at_once(edit.branches_at_once);
      network->prepare(edit.diffusion.schedule, sigmas);
    };
    std::int64_t step_begun = -1;
    const auto denoiser = [&](const at::Tensor& latents, const ip2p::Step& step) -> at::Tensor {
      if (std::exchange(step_begun, step.index) != step.index) drop();
      if (!network) return all(latents, step);
      auto some =
          ip2p::guided_denoiser(std::ref(*network), edit.guidance, edit.diffusion.schedule, edit.diffusion.prediction);
      const auto index = at::tensor(rows).to(latents.device());
      return latents.index_copy(0, index, some(latents.index_select(0, index), step));
    };
    auto result = base.sample(denoiser, std::move(x), sigmas, rng, hooks);
    if (network) network->finish();
    return result;
  }
};

}  // namespace

at::Tensor run_watched(const ip2p::Editor& edit, const at::Tensor& pictures, const at::Tensor& image_latents,
                       ip2p::Conditioning conditioning, const at::Tensor& start_noise,
                       const ip2p::RunSettings& settings, ip2p::AnyNoise& noise, const RowWatch& watch) {
  const auto rows = conditioning.text.size(0);
  conditioning.image = image_latents.expand({rows, -1, -1, -1});
  std::optional<ip2p::LinearPreview> preview;
  if (watch.preview_every > 0) {
    preview = ip2p::LinearPreview::fitted(image_latents.mul(edit.codec().scaling_factor()), pictures);
  }
  const auto show = [&](const ip2p::Step& step, const at::Tensor& x0) {
    if (!preview || (step.index + 1) % watch.preview_every != 0 || step.index + 1 == step.count) return;
    const auto images = ip2p::tensor_to_images((*preview)(x0), ip2p::Rounding::nearest);
    for (std::size_t i = 0; i < images.size(); ++i) {
      if (watch.wanted && !watch.wanted(i)) continue;
      watch.show(i, ip2p::resize(images[i], pictures.size(3), pictures.size(2), ip2p::Filter::bicubic));
    }
  };
  const auto options = edit.completed(settings);
  const auto sigmas = edit.diffusion.schedule.sigmas(*options.steps);
  const WantedRows sampler{edit, conditioning, watch.wanted, {edit.sampler, show}};
  return edit
      .denoise(start_noise.mul(ip2p::initial_sigma(edit.diffusion.schedule, sigmas)), sigmas, conditioning, noise,
               options.hooks, ip2p::PlainAttention{}, edit.guidance, sampler)
      .to(at::kCPU);
}

}  // namespace example
