// Every shipped type of every role in everything that takes a pipeline with it: compiled, without generating code. What
// is compiled here is run by compositions_test.cpp, in which every pipeline gets each role, and by the tests of the
// models.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/full_size.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/latent_walk.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/pipeline/pair_generator.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/pipeline/two_pass.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/unet/unet.hpp"
#include "pipeline/composition_lists.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

using Seeds = std::vector<std::uint64_t>;

template <class Guidance>
constexpr bool serves_null_text() {
  for (const auto& branch : Guidance::branches) {
    if (!branch.text) return detail::Combines<Guidance> && !over_estimates<Guidance>();
  }
  return false;
}

/// One type of each role in every pipeline and every algorithm over it.
template <class Sampler, class Schedule, class Prediction, class Codec, class Encoder, class Network, class Guidance,
          class Attention, class MakeNoise>
struct Composition {
  using Trained = Diffusion<Schedule, Prediction>;
  using Edit = EditPipeline<Encoder, Codec, Network, Trained, Sampler, Guidance>;
  using Generate = TextToImagePipeline<Encoder, Codec, Network, Trained, Sampler, Guidance>;
  using Inpaint = InpaintPipeline<Encoder, Codec, Network, Trained, Sampler, Guidance>;

  static void edits(Edit& edit, const Image& photo, std::span<const std::string> prompts, const MakeNoise& make_noise,
                    const Attention& attention) {
    edit.to(at::kCPU);
    auto noise = make_noise(Seeds{1});
    static_cast<void>(edit(photo, prompts[0]));
    static_cast<void>(edit.run({&photo, 1}, prompts, {}, noise, attention));
    static_cast<void>(masked_edit(edit, photo, photo, prompts[0]));
    static_cast<void>(masked_edit(edit, photo, photo, prompts[0], {}, noise, attention));
    static_cast<void>(edit_at_full_size(edit, photo, prompts[0]));
  }

  static void inpaints(Inpaint& inpaint, const Image& photo, const std::string& prompt, const MakeNoise& make_noise,
                       const Attention& attention) {
    inpaint.to(at::kCPU);
    auto noise = make_noise(Seeds{1});
    static_cast<void>(inpaint(photo, photo, prompt));
    static_cast<void>(inpaint.run(photo, photo, prompt, {}, {}, noise, attention));
    static_cast<void>(at_full_size(inpaint, photo, photo, photo));
  }

  static void generates(Generate& generate, const Image& photo, std::span<const std::string> prompts,
                        const MakeNoise& make_noise, const Attention& attention) {
    generate.to(at::kCPU);
    auto noise = make_noise(Seeds{1});
    static_cast<void>(generate(prompts[0]));
    static_cast<void>(generate.run(prompts, {}, noise, attention));
    static_cast<void>(sdedit(generate, photo, prompts[0]));
    static_cast<void>(sdedit(generate, {&photo, 1}, prompts, {}, {}, noise, attention));
    static_cast<void>(at_full_size(generate, photo, photo));
    static_cast<void>(at_full_size(generate, photo, {&photo, 1}));
    static_cast<void>(two_pass(generate, prompts[0], {}, {}, make_noise));
    static_cast<void>(latent_walk(generate, prompts[0], 2, 2, {}, make_noise));
    const auto samples = pair_samples(1, 1, 0, 1);
    static_cast<void>(PairGenerator(generate, {.steps = 2}, make_noise)(prompts[0], prompts[1], samples));
    static_cast<void>(prompt_to_prompt(generate, prompts, attention));
    static_cast<void>(prompt_to_prompt(generate, prompts, attention, {}, {}, noise));
    const auto inversion = invert(generate, photo, prompts[0]);
    at::Tensor texts;
    if constexpr (serves_null_text<Guidance>()) texts = null_text(generate, inversion).texts;
    static_cast<void>(prompt_to_prompt(generate, inversion, texts, prompts, attention));
  }
};

template <class... Lists>
struct Join;
template <class... First, class... Second>
struct Join<std::tuple<First...>, std::tuple<Second...>> {
  using type = std::tuple<First..., Second...>;
};
template <class Made, class... More>
using with_more = typename Join<Made, std::tuple<More...>>::type;

using Samplers = decltype(composed_samplers());
using Schedules = decltype(composed_schedules());
using Predictions = decltype(composed_predictions());
using Codecs = with_more<decltype(composed_codecs()), KlAutoencoder, DcAutoencoder, TinyAutoencoder,
                         Tiled<KlAutoencoder>, OnDemand<KlAutoencoder>, OnDemand<TinyAutoencoder>>;
using Encoders = with_more<decltype(composed_encoders()), ClipTextEncoder, OnDemand<ClipTextEncoder>>;
using Networks = std::tuple<NetworkArchetype, AnyNetwork, UNet>;
using Guidances = decltype(composed_guidances());
using Attentions = with_more<decltype(composed_attentions()), AttentionReference>;
using Noises = decltype(composed_noises());

template <std::size_t row, class List>
using InRow = std::tuple_element_t<row % std::tuple_size_v<List>, List>;

template <std::size_t row>
void compose() {
  using Row = Composition<InRow<row, Samplers>, InRow<row, Schedules>, InRow<row, Predictions>, InRow<row, Codecs>,
                          InRow<row, Encoders>, InRow<row, Networks>, InRow<row, Guidances>, InRow<row, Attentions>,
                          InRow<row, Noises>>;
  static_cast<void>(std::tuple{&Row::edits, &Row::inpaints, &Row::generates});
}

template <std::size_t... rows>
void compose_all(std::index_sequence<rows...>) {
  (compose<rows>(), ...);
}

}  // namespace

/// As many rows as the longest list has types.
void compose_everything() {
  constexpr auto rows =
      std::max({std::tuple_size_v<Samplers>, std::tuple_size_v<Schedules>, std::tuple_size_v<Predictions>,
                std::tuple_size_v<Codecs>, std::tuple_size_v<Encoders>, std::tuple_size_v<Networks>,
                std::tuple_size_v<Guidances>, std::tuple_size_v<Attentions>, std::tuple_size_v<Noises>});
  compose_all(std::make_index_sequence<rows>());
}
