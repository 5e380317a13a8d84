#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>

#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ip2p/testing/check_codec.hpp"
#include "ip2p/testing/check_network.hpp"
#include "ip2p/testing/check_prediction.hpp"
#include "ip2p/testing/check_text_encoder.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law: every type below keeps all laws of its role but one.

namespace {

using namespace ip2p;
using testing::check_codec;
using testing::check_network;
using testing::check_prediction;
using testing::check_text_encoder;

enum class CodecFlaw {
  none,
  no_scaling,
  quarter_latents,
  half_pictures,
  not_finite,
  changes_images,
  impure,
  whole_batch,
  whole_batch_decoded,
  constant,
  other_mean,
  narrow_variance,
  other_sample
};

template <CodecFlaw flaw>
struct FlawedCodec {
  struct Moments {
    at::Tensor mean, logvar;
    at::Tensor sample(const at::Tensor& noise) const {
      return mean.add(logvar.mul(flaw == CodecFlaw::other_sample ? 1.0 : 0.5).exp().mul(noise));
    }
  };
  std::shared_ptr<int> calls = std::make_shared<int>(0);

  at::Tensor encode(const at::Tensor& images) const {
    if (flaw == CodecFlaw::changes_images) images.mul_(0.5);
    const std::int64_t side = flaw == CodecFlaw::quarter_latents ? 4 : 2;
    auto latents = at::avg_pool2d(images, {side, side}, {side, side});
    if (flaw == CodecFlaw::not_finite) latents = latents.div(latents.sub(latents));
    if (flaw == CodecFlaw::impure) latents = latents.add(++*calls);
    if (flaw == CodecFlaw::whole_batch) latents = latents.sub(latents.mean());
    if (flaw == CodecFlaw::constant) latents = latents.mul(0.0);
    return latents;
  }
  at::Tensor decode(const at::Tensor& latents) const {
    const auto used = flaw == CodecFlaw::whole_batch_decoded ? latents.sub(latents.mean()) : latents;
    const std::int64_t side = flaw == CodecFlaw::half_pictures ? 1 : 2;
    return used.repeat_interleave(side, 2).repeat_interleave(side, 3);
  }
  Moments encode_moments(const at::Tensor& images) const {
    const auto mean = encode(images);
    return {flaw == CodecFlaw::other_mean ? mean.mul(2.0) : mean,
            flaw == CodecFlaw::narrow_variance ? mean.narrow(1, 0, 1) : mean.sub(3.0)};
  }
  double scaling_factor() const { return flaw == CodecFlaw::no_scaling ? 0.0 : 0.5; }
  std::int64_t downscale() const { return 2; }
  std::int64_t latent_channels() const { return 3; }
};

template <CodecFlaw flaw>
void require_codec_broken(const std::string& law, const testing::CodecCheck& check = {}) {
  REQUIRE_THROWS_WITH(check_codec(FlawedCodec<flaw>{}, check), Contains(" breaks the law \"" + law));
}

enum class EncoderFlaw { none, one_row, ragged, not_finite, impure, whole_batch, null_text, flat };

struct FlawedEncoder {
  EncoderFlaw flaw;
  testing::TextEncoderArchetype sound{5, 4};
  std::shared_ptr<int> calls = std::make_shared<int>(0);

  at::Tensor encode(std::span<const std::string> prompts) const {
    std::vector<std::string> texts(prompts.begin(), prompts.end());
    if (flaw == EncoderFlaw::null_text) {
      for (auto& text : texts) text = text.empty() ? "make it snowy" : text;
    }
    auto context = sound.encode(texts);
    if (flaw == EncoderFlaw::one_row && prompts.size() > 1) return context.narrow(0, 1, context.size(0) - 1);
    if (flaw == EncoderFlaw::ragged && prompts.size() == 1) return context.narrow(1, 0, 1 + (prompts[0].size() > 3));
    if (flaw == EncoderFlaw::not_finite) return context.mul(NAN);
    if (flaw == EncoderFlaw::impure) return context.add(++*calls);
    if (flaw == EncoderFlaw::whole_batch) return context.sub(context.mean());
    if (flaw == EncoderFlaw::flat) return context.flatten(1);
    return context;
  }
};

enum class NetworkFlaw {
  none,
  own_channels,
  not_finite,
  changes_x,
  impure,
  whole_batch,
  first_time,
  no_time,
  no_text,
  twice,
  never,
  forgets_step,
  rows
};

/// The archetype, with one defect.
template <NetworkFlaw flaw>
struct FlawedNetwork {
  testing::NetworkArchetype sound{4, 4};
  std::shared_ptr<int> calls = std::make_shared<int>(0);

  TimeProjections project_time(const at::Tensor& timesteps) const {
    auto times = sound.project_time(timesteps);
    if (flaw == NetworkFlaw::no_time) times[0] = times[0].mul(0.0);
    return times;
  }
  ContextProjections project_context(const at::Tensor& context) const {
    auto texts = sound.project_context(context);
    if (flaw == NetworkFlaw::no_text) texts[0].values = texts[0].values.mul(0.0);
    return texts;
  }
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step, const at::Tensor& rows = {}) const {
    if (rows.defined()) {
      return (*this)(
          flaw == NetworkFlaw::rows ? x.narrow(0, 0, 1).repeat({rows.size(0), 1, 1, 1}) : x.index_select(0, rows),
          times, texts, attend, step);
    }
    auto seen = times;
    if (flaw == NetworkFlaw::first_time && times[0].size(0) == 2) seen[0] = times[0].narrow(0, 0, 1);
    if (flaw == NetworkFlaw::changes_x) x.mul_(1.5);
    const auto told = flaw == NetworkFlaw::forgets_step ? Step{} : step;
    if (flaw == NetworkFlaw::twice) static_cast<void>(sound(x, seen, texts, attend, told));
    auto result = flaw == NetworkFlaw::never ? sound(x, seen, texts, PlainAttention{}, told)
                                             : sound(x, seen, texts, attend, told);
    if (flaw == NetworkFlaw::own_channels) return result.narrow(1, 0, 3);
    if (flaw == NetworkFlaw::not_finite) return result.div(0.0);
    if (flaw == NetworkFlaw::impure) return result.add(1e-3 * ++*calls);
    if (flaw == NetworkFlaw::whole_batch) return result.sub(result.mean());
    return result;
  }
  std::int64_t in_channels() const { return 4; }
  at::Device device() const { return at::kCPU; }
  at::ScalarType dtype() const { return at::kFloat; }
};

template <NetworkFlaw flaw>
void require_network_broken(const std::string& law) {
  REQUIRE_THROWS_WITH(check_network(FlawedNetwork<flaw>{}, {.context_width = 6, .tokens = 3}),
                      Contains("DenoisingNetwork breaks the law \"" + law));
}

struct FlawedPrediction {
  int flaw;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  Preconditioning preconditioning(double sigma) const {
    auto factors = testing::PredictionArchetype(0).preconditioning(sigma);
    if (flaw == 1) factors.c_in = 1.0 / (sigma - sigma);
    if (flaw == 2) factors.c_in = 0.0;
    if (flaw == 3) factors.c_out = 0.0;
    if (flaw == 4) factors.c_skip = 1e7;
    if (flaw == 5) factors.c_in *= 1.0 + 1e-3 * ++*calls;
    if (flaw == 6) factors.c_out = -factors.c_out;
    return factors;
  }
};

}  // namespace

TEST_CASE("The checks for models accept the archetypes", "[testing]") {
  check_codec(testing::CodecArchetype(4), {.round_trip = 0.3});
  check_text_encoder(testing::TextEncoderArchetype(3, 2));
  check_network(testing::NetworkArchetype(7, 4), {.context_width = 9, .tokens = 3});
  check_prediction(testing::PredictionArchetype(0));
}

TEST_CASE("check_codec names the broken law", "[testing]") {
  check_codec(FlawedCodec<CodecFlaw::none>{}, {.round_trip = 0.3});
  require_codec_broken<CodecFlaw::no_scaling>("the scaling factor is finite and not 0");
  require_codec_broken<CodecFlaw::quarter_latents>("images [B,3,H,W] become latents [B,C,H/f,W/f]");
  require_codec_broken<CodecFlaw::half_pictures>("latents [B,C,h,w] become pictures [B,3,f*h,f*w]");
  require_codec_broken<CodecFlaw::not_finite>("values are finite");
  require_codec_broken<CodecFlaw::changes_images>("arguments are not changed");
  require_codec_broken<CodecFlaw::impure>("equal calls give equal bits");
  require_codec_broken<CodecFlaw::whole_batch>("a batch equals the loop over its images\": encode");
  require_codec_broken<CodecFlaw::whole_batch_decoded>("a batch equals the loop over its images\": decode");
  require_codec_broken<CodecFlaw::constant>("different pictures have different latents");
  require_codec_broken<CodecFlaw::none>("decode(encode(x)) stays within the round-trip bound", {.round_trip = 1e-3});
  require_codec_broken<CodecFlaw::other_mean>("the posterior's mean is what encode gives");
  require_codec_broken<CodecFlaw::narrow_variance>("the log variance is finite and of the latents' shape");
  require_codec_broken<CodecFlaw::other_sample>("a sample is mean + exp(logvar / 2) * noise");
}

TEST_CASE("check_text_encoder names the broken law", "[testing]") {
  const auto broken = [](EncoderFlaw flaw, const std::string& law) {
    REQUIRE_THROWS_WITH(check_text_encoder(FlawedEncoder{flaw}), Contains("TextEncoder breaks the law \"" + law));
  };
  check_text_encoder(FlawedEncoder{EncoderFlaw::none});
  broken(EncoderFlaw::one_row, "the context is [B, tokens, width] in floating point, one row per prompt");
  broken(EncoderFlaw::flat, "the context is [B, tokens, width] in floating point, one row per prompt");
  broken(EncoderFlaw::ragged, "all prompts have as many tokens");
  broken(EncoderFlaw::not_finite, "values are finite");
  broken(EncoderFlaw::impure, "equal calls give equal bits");
  broken(EncoderFlaw::whole_batch, "a batch equals the loop over its prompts");
  broken(EncoderFlaw::null_text, "\"\" is the null text, which no other prompt equals");
}

TEST_CASE("check_network names the broken law", "[testing]") {
  check_network(FlawedNetwork<NetworkFlaw::none>{}, {.context_width = 6, .tokens = 3});
  require_network_broken<NetworkFlaw::own_channels>("the prediction is [B,C,h,w]");
  require_network_broken<NetworkFlaw::not_finite>("values are finite");
  require_network_broken<NetworkFlaw::changes_x>("the argument is not changed");
  require_network_broken<NetworkFlaw::impure>("equal calls give equal bits");
  require_network_broken<NetworkFlaw::whole_batch>("a batch equals the loop over its samples");
  require_network_broken<NetworkFlaw::first_time>("a batch equals the loop over its samples");
  require_network_broken<NetworkFlaw::no_time>("the prediction depends on the timestep");
  require_network_broken<NetworkFlaw::no_text>("the prediction depends on the text");
  require_network_broken<NetworkFlaw::twice>("the attention policy is called once at each attention layer\": twice");
  require_network_broken<NetworkFlaw::never>(
      "the attention policy is called once at each attention layer\": expected 1 calls, one for each projected text, "
      "found 0");
  require_network_broken<NetworkFlaw::forgets_step>("sites carry the step of the call");
  require_network_broken<NetworkFlaw::rows>("with `rows`, row r belongs to row rows[r] of x");
}

TEST_CASE("check_prediction names the broken law", "[testing]") {
  const auto noise = [](const at::Tensor&, const at::Tensor& drawn, double) { return drawn; };
  const auto broken = [&](int flaw, const std::string& law) {
    REQUIRE_THROWS_WITH(check_prediction(FlawedPrediction{flaw}, noise),
                        Contains("PredictionPolicy breaks the law \"" + law));
  };
  check_prediction(FlawedPrediction{0}, noise);
  broken(1, "factors are finite");
  broken(2, "the network sees the latents: c_in is not 0");
  broken(3, "the estimate needs the network: c_out is not 0");
  broken(4, "x0 comes back from the training target that is implied");
  broken(5, "factors are a function of sigma");
  broken(6, "the training target is the one that is promised");
}
