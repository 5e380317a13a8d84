#include "preview.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/codec/linear_preview.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/sampling/show_estimates.hpp"

namespace edit_image {

ip2p::PipelineResult run_with_previews(const ip2p::Editor& edit, std::span<const ip2p::Image> photos,
                                       const std::vector<std::string>& prompts, const ip2p::RunSettings& settings,
                                       ip2p::AnyNoise& noise, std::int64_t every,
                                       const std::function<void(std::size_t, ip2p::Image)>& show) {
  const auto options = edit.completed(settings);
  const auto pictures = edit.prepare(photos, options);
  const auto image_latents = edit.encode_images(pictures);
  const double scaling = edit.codec().scaling_factor();
  const auto preview = ip2p::LinearPreview::fitted(image_latents.mul(scaling), pictures);
  const ip2p::ShowEstimates<ip2p::AnySampler> sampler{
      edit.sampler, [&](const ip2p::Step& step, const at::Tensor& x0) {
        if ((step.index + 1) % every != 0 || step.index + 1 == step.count) return;
        const auto images = ip2p::tensor_to_images(preview(x0), ip2p::Rounding::nearest);
        for (std::size_t i = 0; i < images.size(); ++i) {
          show(i, ip2p::resize(images[i], pictures.size(3), pictures.size(2), ip2p::Filter::bicubic));
        }
      }};
  // The pipeline's own run, with another sampler.
  const auto sigmas = edit.diffusion.schedule.sigmas(*options.steps);
  auto conditioning = edit.encode_text(prompts, options.negative_prompt);
  conditioning.image = image_latents.expand({static_cast<std::int64_t>(prompts.size()), -1, -1, -1});
  const auto start = edit.start_noise(options, conditioning.image.sizes(), noise);
  ip2p::PipelineResult result;
  result.latents =
      edit.denoise(start.mul(ip2p::initial_sigma(edit.diffusion.schedule, sigmas)), sigmas, std::move(conditioning),
                   noise, options.hooks, ip2p::PlainAttention{}, edit.guidance, sampler)
          .to(at::kCPU);
  result.images = edit.decode(result.latents, ip2p::rounding_of(*options.numerics));
  return result;
}

}  // namespace edit_image
