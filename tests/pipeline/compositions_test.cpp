#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "ip2p/attention/any_token_edit.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/self_replace.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/attention/text_only.hpp"
#include "ip2p/codec/any_codec.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/cfg_plus_plus.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/per_image_text_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/guidance/text_first_dual_guidance.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/edm_sigmas.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "ip2p/text/any_text_encoder.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/unet/any_network.hpp"
#include "support/catch.hpp"

// Every shipped type of every role, and the archetype of each, in the pipelines that take the role: whatever satisfies
// a concept is enough.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const RunSettings two_steps{.steps = 2, .seed = 3, .resolution = 64};
const std::vector<std::string> one_prompt{"make it snowy"};

Image striped_picture() {
  Image image{64, 64, std::vector<std::uint8_t>(64 * 64 * 3)};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * 7);
  return image;
}

/// An editor of archetypes, but for what is given.
template <class Codec = CodecArchetype, class Sampler = SamplerArchetype, class Guidance = GuidanceArchetype,
          class Schedule = ScheduleArchetype, class Prediction = PredictionArchetype,
          class Encoder = TextEncoderArchetype, class Network = NetworkArchetype>
auto composed(Codec codec = CodecArchetype(2), Sampler sampler = SamplerArchetype(0),
              Guidance guidance = GuidanceArchetype(0), Schedule schedule = ScheduleArchetype(10.0),
              Prediction prediction = PredictionArchetype(0), Encoder encoder = TextEncoderArchetype(4, 16),
              Network network = NetworkArchetype(6, 3)) {
  return EditPipeline{encoder, codec, network, Diffusion{schedule, prediction}, sampler, guidance};
}

template <class Pipeline, class... More>
void check_composition(Pipeline pipeline, More&&... more) {
  const auto photo = striped_picture();
  if constexpr (sizeof...(More) == 0) {
    const auto result = pipeline.run({&photo, 1}, one_prompt, two_steps);
    CHECK(at::isfinite(result.latents).all().template item<bool>());
    CHECK(result.images.front().width == 64);
  } else {
    const auto result = pipeline.run({&photo, 1}, one_prompt, two_steps, more...);
    CHECK(at::isfinite(result.latents).all().template item<bool>());
  }
}

template <class Guidance>
void check_guidance_everywhere(Guidance guidance) {
  check_composition(composed(CodecArchetype(2), SamplerArchetype(0), guidance));
  const TextEncoderArchetype encoder(4, 16);
  const Diffusion diffusion{ScheduleArchetype(10.0), PredictionArchetype(0)};
  const TextToImagePipeline generate{encoder,   CodecArchetype(2),   NetworkArchetype(3, 3),
                                     diffusion, SamplerArchetype(0), guidance};
  CHECK(generate.run(one_prompt, two_steps).images.front().width == 64);
  const InpaintPipeline inpaint{encoder,   CodecArchetype(2),   NetworkArchetype(7, 3),
                                diffusion, SamplerArchetype(0), guidance};
  CHECK(inpaint(striped_picture(), striped_picture(), one_prompt[0], {}, two_steps).width == 64);
}

template <class Sampler>
void check_sampler_everywhere(Sampler sampler) {
  check_composition(composed(CodecArchetype(2), sampler));
}

template <class... Samplers>
void check_samplers(std::type_identity<AnySamplerOf<Samplers...>>) {
  (check_sampler_everywhere(Samplers{}), ...);
}

template <class... Schedules>
void check_schedules(std::type_identity<AnyScheduleOf<Schedules...>>) {
  (check_composition(
       composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), Schedules::from_config({}))),
   ...);
}

template <class Prediction>
void check_prediction_in_pipeline(Prediction prediction) {
  // The archetype of a network takes the logarithm of 1 + c_noise.
  check_composition(
      composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), EdmSigmas{.sigma_min = 0.1}, prediction));
}

template <class Attention>
void check_attention_in_pipeline(const Attention& attention) {
  TorchNoise noise(3);
  check_composition(composed(), noise, attention);
}

/// Gives NaN from its third step on.
struct Failing : NetworkArchetype {
  using NetworkArchetype::NetworkArchetype;
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step) const {
    auto result = NetworkArchetype::operator()(x, times, texts, attend, step);
    return step.index >= 2 ? result.mul(std::nan("")) : result;
  }
};

/// Says that its only layer was the first to give them.
struct Searched : Failing {
  using Failing::Failing;
  template <class Evaluate>
  std::string first_non_finite(Evaluate&& evaluate) const {
    evaluate();
    return "layer";
  }
};

}  // namespace

TEST_CASE("Pipelines take archetypes, and every shipped guidance", "[pipeline]") {
  check_guidance_everywhere(GuidanceArchetype(0));
  check_guidance_everywhere(NoGuidance{});
  check_guidance_everywhere(TextGuidance{3.0});
  check_guidance_everywhere(DualGuidance{1.5, 3.0});
  check_guidance_everywhere(TextFirstDualGuidance{});
  check_guidance_everywhere(PerImageTextGuidance{{3.0}});
  check_guidance_everywhere(Rescaled{TextGuidance{3.0}, 0.7});
  check_guidance_everywhere(LimitedInterval{DualGuidance{}, 0.3, 5.0});
  check_guidance_everywhere(AdaptiveProjectedGuidance{TextGuidance{5.0}});
  check_guidance_everywhere(CfgPlusPlus{TextGuidance{0.6}});
}

TEST_CASE("Pipelines take every shipped sampler and schedule", "[pipeline]") {
  check_samplers(std::type_identity<AnySampler>{});
  check_sampler_everywhere(AnySampler::named("heun"));
  check_schedules(std::type_identity<AnySchedule>{});
  check_composition(
      composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), AnySchedule::named("karras")));
}

TEST_CASE("Pipelines take every shipped prediction, codec, encoder and network", "[pipeline]") {
  check_prediction_in_pipeline(EpsPrediction{});
  check_prediction_in_pipeline(VPrediction{});
  check_prediction_in_pipeline(SamplePrediction{});
  check_prediction_in_pipeline(EdmPrediction{});
  check_prediction_in_pipeline(AnyPrediction{PredictionType::v_prediction});

  check_composition(composed(IdentityCodec{}));
  check_composition(composed(Tiled(CodecArchetype(2), 8, 2)));
  check_composition(composed(AnyCodec(CodecArchetype(2))));
  const auto with_encoder = [](auto encoder) {
    check_composition(composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), ScheduleArchetype(10.0),
                               PredictionArchetype(0), encoder));
  };
  with_encoder(AnyTextEncoder(TextEncoderArchetype(4, 16)));
  check_composition(composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), ScheduleArchetype(10.0),
                             PredictionArchetype(0), TextEncoderArchetype(4, 16), AnyNetwork(NetworkArchetype(6, 3))));
  // Nothing that it is made of can be moved: that is no error.
  auto still = composed();
  still.to(at::kCPU);
  check_composition(still);
}

TEST_CASE("Pipelines take every shipped attention policy and noise source", "[pipeline]") {
  check_attention_in_pipeline(AttentionArchetype(0));
  check_attention_in_pipeline(PlainAttention{});
  check_attention_in_pipeline(TextOnly{PlainAttention{}});
  check_attention_in_pipeline(Observed(PlainAttention{}, StoreMaps{}.start()));

  PhiloxNoise philox(std::uint64_t{3});
  check_composition(composed(), philox);
  CounterNoise counter(3);
  check_composition(composed(), counter);
  SharedNoise shared(TorchNoise(3), 1);
  check_composition(composed(), shared);
  auto any = AnyNoise::named("torch", {3});
  check_composition(composed(), any);
  NoiseArchetype archetype(3);
  check_composition(composed(), archetype);
}

TEST_CASE("A part that breaks its promise is refused in one sentence", "[pipeline]") {
  struct HalfSize : IdentityCodec {
    [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
      return latents.narrow(2, 0, latents.size(2) / 2);
    }
  };
  struct RowTooFew {
    [[nodiscard]] at::Tensor encode(std::span<const std::string> texts) const {
      return TextEncoderArchetype(4, 16).encode(texts.first(texts.size() - 1));
    }
  };
  const auto photo = striped_picture();
  CHECK_THROWS_WITH(
      composed(HalfSize{}).run({&photo, 1}, one_prompt, two_steps),
      Contains("codec: expected pictures [1, 3, 64, 64]") && Contains("found") && Contains("[1, 3, 32, 64]"));
  CHECK_THROWS_WITH(composed(CodecArchetype(2), SamplerArchetype(0), GuidanceArchetype(0), ScheduleArchetype(10.0),
                             PredictionArchetype(0), RowTooFew{})
                        .run({&photo, 1}, one_prompt, two_steps),
                    Contains("text encoder") && Contains("expected"));
}

TEST_CASE("The step that fails is named where the attention policy refuses to see it again", "[pipeline]") {
  const auto text = TextEncoderArchetype(4, 16).encode(one_prompt);
  const auto message = [&](const auto& attention) {
    BranchNetwork network(Searched(6, 3), {.text = text, .null_text = text, .image = at::zeros({1, 3, 8, 8})},
                          attention);
    network.check_every(16);
    try {
      const auto x = at::ones({1, 3, 8, 8});
      for (std::int64_t i = 0; i < 6; ++i) {
        static_cast<void>(network(x, 5.0, {.index = i, .count = 6}, NoGuidance::branches));
      }
      network.finish();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(message(PlainAttention{}), Contains("step 3 of 6") && Contains("first in unet.layer"));
  CHECK_THAT(message(Observed(PlainAttention{}, StoreMaps{}.start())), Contains("step 3 of 6"));
}

TEST_CASE("Values that are not finite are found at the end of a block of steps, by the step that made them",
          "[pipeline]") {
  const auto text = TextEncoderArchetype(4, 16).encode(one_prompt);
  for (const std::int64_t every : {1, 4, 16}) {
    BranchNetwork network(Failing(6, 3), {.text = text, .null_text = text, .image = at::zeros({1, 3, 8, 8})});
    network.check_every(every);
    const auto x = at::ones({1, 3, 8, 8});
    const auto evaluate = [&](std::int64_t i) {
      static_cast<void>(network(x, 5.0, {.index = i, .count = 6}, NoGuidance::branches));
    };
    const auto run = [&] {
      for (std::int64_t i = 0; i < 6; ++i) evaluate(i);
      network.finish();
    };
    CHECK_THROWS_WITH(run(), Contains("step 3 of 6: expected finite values, found NaN or infinity"));
  }
}
