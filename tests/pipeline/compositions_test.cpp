#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/schedule/edm_sigmas.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "pipeline/composition_lists.hpp"
#include "support/catch.hpp"

// The types of composition_lists.hpp, each in a pipeline that takes its role: whatever satisfies a concept is enough.

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
auto composed(Codec codec = CodecArchetype(8), Sampler sampler = SamplerArchetype(0),
              Guidance guidance = GuidanceArchetype(0), Schedule schedule = ScheduleArchetype(10.0),
              Prediction prediction = PredictionArchetype(0), Encoder encoder = TextEncoderArchetype(77, 16),
              Network network = NetworkArchetype(6, 3)) {
  return EditPipeline{encoder, codec, network, Diffusion{schedule, prediction}, sampler, guidance};
}

template <class... Elements, class Check>
void for_each(const std::tuple<Elements...>& list, Check check) {
  std::apply([&](const auto&... element) { (check(element), ...); }, list);
}

template <class Pipeline>
void check_composition(Pipeline pipeline) {
  const auto photo = striped_picture();
  const auto result = pipeline.run({&photo, 1}, one_prompt, two_steps);
  CHECK(at::isfinite(result.latents).all().template item<bool>());
  CHECK(result.images.front().width == 64);
}

template <class Guidance>
void check_guidance_everywhere(const Guidance& guidance) {
  check_composition(composed(CodecArchetype(8), SamplerArchetype(0), guidance));
  const TextEncoderArchetype encoder(77, 16);
  const Diffusion diffusion{ScheduleArchetype(10.0), PredictionArchetype(0)};
  const TextToImagePipeline generate{encoder,   CodecArchetype(8),   NetworkArchetype(3, 3),
                                     diffusion, SamplerArchetype(0), guidance};
  CHECK(generate.run(one_prompt, two_steps).images.front().width == 64);
  const InpaintPipeline inpaint{encoder,   CodecArchetype(8),   NetworkArchetype(7, 3),
                                diffusion, SamplerArchetype(0), guidance};
  CHECK(inpaint(striped_picture(), striped_picture(), one_prompt[0], {}, two_steps).width == 64);
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
  for_each(composed_guidances(), [](const auto& guidance) { check_guidance_everywhere(guidance); });
}

TEST_CASE("Pipelines take every shipped sampler and schedule", "[pipeline]") {
  for_each(composed_samplers(), [](const auto& sampler) { check_composition(composed(CodecArchetype(8), sampler)); });
  for_each(composed_schedules(), [](const auto& schedule) {
    check_composition(composed(CodecArchetype(8), SamplerArchetype(0), GuidanceArchetype(0), schedule));
  });
}

TEST_CASE("Pipelines take every shipped prediction, codec, encoder and network", "[pipeline]") {
  for_each(composed_predictions(), [](const auto& prediction) {
    // The archetype of a network takes the logarithm of 1 + c_noise.
    check_composition(composed(CodecArchetype(8), SamplerArchetype(0), GuidanceArchetype(0),
                               EdmSigmas{.sigma_min = 0.1}, prediction));
  });
  for_each(composed_codecs(), [](const auto& codec) { check_composition(composed(codec)); });
  const auto with = [](const auto& encoder, const auto& network) {
    check_composition(composed(CodecArchetype(8), SamplerArchetype(0), GuidanceArchetype(0), ScheduleArchetype(10.0),
                               PredictionArchetype(0), encoder, network));
  };
  for_each(composed_encoders(), [&](const auto& encoder) { with(encoder, NetworkArchetype(6, 3)); });
  for_each(composed_networks(), [&](const auto& make) { with(TextEncoderArchetype(77, 16), make(6, 3)); });
  // Nothing that it is made of can be moved: that is no error.
  auto still = composed();
  still.to(at::kCPU);
  check_composition(still);
}

TEST_CASE("Pipelines take every shipped attention policy and noise source", "[pipeline]") {
  const auto photo = striped_picture();
  const std::vector<std::string> two_prompts{"make it snowy", "make it sunny"};
  for_each(composed_attentions(), [&](const auto& attention) {
    auto noise = TorchNoise::from_seeds({3, 4});
    const auto result = composed().run({&photo, 1}, two_prompts, two_steps, noise, attention);
    CHECK(result.images.size() == 2);
    CHECK(at::isfinite(result.latents).all().template item<bool>());
  });
  for_each(composed_noises(), [&](const auto& make) {
    auto noise = make({3});
    const auto result = composed().run({&photo, 1}, one_prompt, two_steps, noise);
    CHECK(at::isfinite(result.latents).all().template item<bool>());
  });
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
  CHECK_THROWS_WITH(composed(CodecArchetype(8), SamplerArchetype(0), GuidanceArchetype(0), ScheduleArchetype(10.0),
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
