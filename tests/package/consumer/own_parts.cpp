// An editor in which every part is the user's own, written without touching the library: text encoder, codec, network,
// schedule, prediction, sampler, guidance, noise and attention. The installed kit checks each; all are composed and
// run.
#include <ip2p/pipeline/edit.hpp>
#include <ip2p/testing/check_codec.hpp>
#include <ip2p/testing/check_guidance.hpp>
#include <ip2p/testing/check_network.hpp>
#include <ip2p/testing/check_noise.hpp>
#include <ip2p/testing/check_prediction.hpp>
#include <ip2p/testing/check_sampler.hpp>
#include <ip2p/testing/check_schedule.hpp>
#include <ip2p/testing/check_text_encoder.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

struct LetterEncoder {  // a wave for each letter
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    std::vector<at::Tensor> rows;
    for (const auto& prompt : prompts) {
      double sum = 1.0;
      for (const unsigned char letter : prompt) sum = std::fmod(sum * 31.0 + letter, 1009.0);
      rows.push_back(at::arange(4 * 8).view({4, 8}).mul(0.01 * sum).sin());
    }
    return at::stack(rows);
  }
};

struct PixelCodec {  // latents are the pixels
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const { return images.mul(2.0); }
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const { return latents.div(2.0); }
  [[nodiscard]] double scaling_factor() const { return 0.5; }
  [[nodiscard]] std::int64_t downscale() const { return 1; }
  [[nodiscard]] std::int64_t latent_channels() const { return 3; }
};

struct TintingNetwork {  // predicts the photograph, tinted by the result of attention to the text
  [[nodiscard]] ip2p::TimeProjections project_time(const at::Tensor& timesteps) const {
    return {timesteps.view({-1, 1, 1, 1})};
  }
  [[nodiscard]] ip2p::ContextProjections project_context(const at::Tensor& context) const {
    const auto text = context.narrow(2, 0, 3).unsqueeze(1);
    return {{text, text}};
  }
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const ip2p::TimeProjections& /*times*/,
                        const ip2p::ContextProjections& texts, const Attention& attend, const ip2p::Step& step) const {
    const auto photo = x.narrow(1, 3, 3);
    ip2p::AttentionSite site{.cross = true, .height = x.size(2), .width = x.size(3), .step = step};
    const auto pixels = photo.flatten(2).transpose(1, 2).unsqueeze(1);
    const auto tint = attend(site, pixels, texts[0].keys, texts[0].values);
    return photo.mul(0.5).add(tint.squeeze(1).transpose(1, 2).unflatten(2, {x.size(2), x.size(3)}), 0.1);
  }
  [[nodiscard]] std::int64_t in_channels() const { return 6; }
  [[nodiscard]] at::Device device() const { return at::kCPU; }
  [[nodiscard]] at::ScalarType dtype() const { return at::kFloat; }
};

struct HalvingSigmas {  // 8, 4, 2, ... 0
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    ip2p::detail::require_steps(n);
    std::vector<double> levels;
    for (std::int64_t i = 0; i < n; ++i) levels.push_back(std::ldexp(8.0, -static_cast<int>(i)));
    levels.push_back(0.0);
    return levels;
  }
  [[nodiscard]] double sigma_to_t(double sigma) const { return sigma; }
};

struct CleanPrediction {  // the network answers with the clean latents
  [[nodiscard]] ip2p::Preconditioning preconditioning(double sigma) const {
    return {.c_in = 1.0 / std::sqrt(sigma * sigma + 1.0), .c_skip = 0.0, .c_out = 1.0};
  }
};

struct StraightLine {  // Euler's method
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& /*rng*/,
                    const ip2p::RunHooks& hooks = {}) const {
    ip2p::require_run(x, sigmas);
    for (const ip2p::Step& step : ip2p::steps_of(sigmas)) {
      hooks.check(step);
      x = hooks.finish(step, ip2p::euler_step(x, ip2p::estimate_x0(denoiser, x, step), step.sigma, step.sigma_next));
    }
    return x;
  }
};

struct TextTimesTwo {  // doubles what the text adds
  static constexpr std::array<ip2p::Branch, 2> branches{ip2p::Branch{.text = true, .image = true},
                                                        ip2p::Branch{.text = false, .image = true}};
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& /*step*/) const {
    const auto parts = stacked.chunk(2, 0);
    return parts[1].add(parts[0].sub(parts[1]), 2.0);
  }
};

struct SoftAttention {  // attention at a higher temperature
  static constexpr bool uniform_over_branches = true;
  at::Tensor operator()(const ip2p::AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    return ip2p::PlainAttention{}(site, q.mul(0.5), k, v);
  }
};

int main() {
  ip2p::testing::check_text_encoder(LetterEncoder{});
  ip2p::testing::check_schedule(HalvingSigmas{});
  ip2p::testing::check_prediction(CleanPrediction{});
  ip2p::testing::check_sampler(StraightLine{});

  ip2p::EditPipeline edit{LetterEncoder{},  PixelCodec{},
                          TintingNetwork{}, ip2p::Diffusion{HalvingSigmas{}, CleanPrediction{}},
                          StraightLine{},   TextTimesTwo{}};
  ip2p::Image photo{64, 64, std::vector<std::uint8_t>(64 * 64 * 3)};
  for (std::size_t i = 0; i < photo.pixels.size(); ++i) photo.pixels[i] = static_cast<std::uint8_t>(i * 5);
  const std::vector<std::string> words{"make it blue"};
  ip2p::CounterNoise noise(7);
  const auto edited = edit.run({&photo, 1}, words, {.steps = 4, .resolution = 64}, noise, SoftAttention{});
  const auto plain = edit.run({&photo, 1}, words, {.steps = 4, .resolution = 64}, noise);
  if (edited.images[0].width != 64 || edited.images[0] == plain.images[0]) return 1;
  // Two steps along the straight line towards the network's answer end at that answer: no trace of the noise is left.
  ip2p::CounterNoise other(8);
  const auto again = edit.run({&photo, 1}, words, {.steps = 4, .resolution = 64}, other);
  if (!again.latents.allclose(plain.latents, 1e-4, 1e-4)) return 1;
  std::printf("an editor of nine parts of one's own edited %lld x %lld pixels\n",
              static_cast<long long>(edited.images[0].width), static_cast<long long>(edited.images[0].height));
}
