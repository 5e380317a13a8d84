#pragma once

// Every shipped type of the roles that need no weights, including null objects, erased types and archetypes: one list
// for each role. New types must be added here (samplers and schedules come from the lists of the erased types); they
// are then compiled in every pipeline (compositions.cpp) and run (compositions_test.cpp).

#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ip2p/attention/any_token_edit.hpp"
#include "ip2p/attention/local_blend.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/refine.hpp"
#include "ip2p/attention/reweight.hpp"
#include "ip2p/attention/self_replace.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/attention/text_only.hpp"
#include "ip2p/attention/word_swap.hpp"
#include "ip2p/codec/any_codec.hpp"
#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/cfg_plus_plus.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/per_image_text_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/guidance/text_first_dual_guidance.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/edm_sigmas.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "ip2p/text/any_text_encoder.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/unet/any_network.hpp"

namespace ip2p::testing {

template <class... Samplers>
auto composed_samplers(std::type_identity<AnySamplerOf<Samplers...>>) {
  return std::tuple{SamplerArchetype(0), AnySampler(Euler{}), Samplers{}...};
}
inline auto composed_samplers() { return composed_samplers(std::type_identity<AnySampler>{}); }

template <class... Schedules>
auto composed_schedules(std::type_identity<AnyScheduleOf<Schedules...>>) {
  // The archetype of a network takes the logarithm of 1 + c_noise.
  return std::tuple{ScheduleArchetype(10.0), EdmSigmas{.sigma_min = 0.1}, AnySchedule::named("karras"),
                    Schedules::from_config({})...};
}
inline auto composed_schedules() { return composed_schedules(std::type_identity<AnySchedule>{}); }

inline auto composed_predictions() {
  return std::tuple{PredictionArchetype(0), EpsPrediction{}, VPrediction{},
                    SamplePrediction{},     EdmPrediction{}, AnyPrediction{PredictionType::v_prediction}};
}

inline auto composed_codecs() {
  return std::tuple{CodecArchetype(8), IdentityCodec{}, Tiled(CodecArchetype(8), 8, 2), AnyCodec(CodecArchetype(8))};
}

inline auto composed_encoders() {
  const TextEncoderArchetype archetype(77, 16);
  return std::tuple{archetype, AnyTextEncoder(archetype), CachedTextEncoder(archetype)};
}

/// Each makes a network with these numbers of input and output channels.
inline auto composed_networks() {
  return std::tuple{
      [](std::int64_t in, std::int64_t out) { return NetworkArchetype(in, out); },
      [](std::int64_t in, std::int64_t out) { return AnyNetwork(NetworkArchetype(in, out)); },
  };
}

/// For this number of images. `CfgPlusPlus` is in the row of Euler's sampler, because it needs one evaluation per step.
inline auto composed_guidances(std::size_t images = 1) {
  return std::tuple{GuidanceArchetype(0),
                    NoGuidance{},
                    TextGuidance{3.0},
                    CfgPlusPlus{TextGuidance{0.6}},
                    DualGuidance{1.5, 3.0},
                    TextFirstDualGuidance{},
                    PerImageTextGuidance{std::vector<double>(images, 3.0)},
                    Rescaled{TextGuidance{3.0}, 0.7},
                    LimitedInterval{DualGuidance{}, 0.3, 5.0},
                    AdaptiveProjectedGuidance{TextGuidance{5.0}},
                    Scheduled([](const Step& step) { return TextGuidance{3.0 * (1.0 - step.progress())}; })};
}

/// Every edit of text cross-attention, from the first of two images to the second.
inline auto composed_edits() {
  const WordSwap swap{at::eye(77).unsqueeze(0)};
  const Refine refine{at::arange(77, at::kLong).unsqueeze(0), at::ones({1, 77})};
  return std::tuple{AnyTokenEdit(swap),
                    swap,
                    refine,
                    KeepSource{},
                    Reweight{at::ones({77}).mul(2.0)},
                    Reweight{at::ones({77}), refine}};
}

/// For groups of two images.
inline auto composed_attentions() {
  const auto edits = composed_edits();
  const auto edited = std::apply([](const auto&... edit) { return std::tuple{PromptToPrompt{edit}...}; }, edits);
  // It only records: the archetype of a network has no maps as small as those that it blends by.
  const auto blend = LocalBlend{.words = {{1}, {1}}, .start_blend = 1.0}.start();
  return std::tuple_cat(
      std::tuple{AttentionArchetype(0), PlainAttention{}, SelfReplace{}, TextOnly{SelfReplace{}},
                 Observed(PlainAttention{}, StoreMaps{}.start()), Observed(PromptToPrompt{std::get<0>(edits)}, blend)},
      edited);
}

/// Each makes a noise source with these seeds.
inline auto composed_noises() {
  using Seeds = std::vector<std::uint64_t>;
  return std::tuple{
      [](const Seeds& seeds) { return NoiseArchetype(seeds.front()); },
      [](const Seeds& seeds) { return TorchNoise::from_seeds(seeds); },
      [](const Seeds& seeds) { return PhiloxNoise::from_seeds(seeds); },
      [](const Seeds& seeds) { return CounterNoise::from_seeds(seeds); },
      [](const Seeds& seeds) { return SharedNoise(CounterNoise(seeds.front()), 1); },
      [](const Seeds& seeds) { return AnyNoise::named("torch", seeds); },
  };
}

}  // namespace ip2p::testing
