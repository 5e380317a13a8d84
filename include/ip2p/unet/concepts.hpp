#pragma once

/// \file
/// Concepts for denoising networks: what a pipeline needs of a UNet, and what training needs.
///
/// The network holds weights only. Inputs known before the run starts are projected once, by `project_time` and
/// `project_context`; the attention policy is an argument of the call.
///
/// Laws (`ip2p::testing::check_network`): pure; a batch equals the loop over its samples, and one projected timestep
/// serves all of them; copies share the weights; an attention policy is called once per attention layer, with the step
/// of the call; `project_context` returns one entry per cross-attention layer.
///
/// Skeleton:
/// \code
/// struct MyNetwork {
///   ip2p::TimeProjections project_time(const at::Tensor& timesteps) const;      // [B] -> what depends on time alone
///   ip2p::ContextProjections project_context(const at::Tensor& context) const;  // [B,tokens,width] -> the same, text
///   template <class Attention>
///   at::Tensor operator()(const at::Tensor& x, const ip2p::TimeProjections& times,
///                         const ip2p::ContextProjections& texts, const Attention& attention,
///                         const ip2p::Step& step) const;                        // [B,in_channels,h,w] -> [B,C,h,w]
///   std::int64_t in_channels() const;                                           // of the latents and their condition
///   at::Device device() const;
///   at::ScalarType dtype() const;
/// };
/// static_assert(ip2p::DenoisingNetwork<MyNetwork>);
/// \endcode
///
/// Optional, used when present:
///  - a sixth argument of the call, int64 `rows` (see `UNet`), which lets the layers before the first text
///    cross-attention run once per row of x;
///  - `std::optional<std::uint64_t> fingerprint() const`, which changes with anything but the values of weights that a
///    recording of an evaluation has fixed (see `UNet`). It also says that the step decides nothing but what the
///    attention policy does. It is asked at the beginning of a run, and within it only after a change that was noted
///    (`note_model_change`). Without it, evaluations are not recorded (execution/graphed.hpp);
///  - `bool reuses(std::int64_t steps_ago) const` and a seventh argument of the call, `Tensor& deep`: features that one
///    evaluation of a run leaves to those after it (see `DeepCache`). Undefined: the call sets them, or leaves them
///    undefined if it has none; defined: the call goes on from those of an evaluation `steps_ago` steps before, for
///    which `reuses` said true.

#include <concepts>
#include <cstdint>
#include <optional>
#include <vector>

#include "ip2p/attention/keys_values.hpp"
#include "ip2p/attention/plain.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Time embedding already projected for each residual block, in the order of evaluation, each [B or 1, C, 1, 1].
/// A sampling run knows its timesteps, so it computes all of them before the first step.
using TimeProjections = std::vector<at::Tensor>;

/// Text context already projected for each transformer layer, in the order of evaluation.
using ContextProjections = std::vector<KeysValues>;

/// `network(x, times, texts, attention, step)` with x [B, in_channels(), h, w] gives a prediction [B, C, h, w].
template <class Network>
concept DenoisingNetwork = std::copy_constructible<Network> &&
    requires(const Network& network, const at::Tensor& t, const TimeProjections& times, const ContextProjections& texts,
             const PlainAttention& attention, const Step& step) {
  { network.project_time(t) } -> std::convertible_to<TimeProjections>;
  { network.project_context(t) } -> std::convertible_to<ContextProjections>;
  { network(t, times, texts, attention, step) } -> std::convertible_to<at::Tensor>;
  { network.in_channels() } -> std::convertible_to<std::int64_t>;
  { network.device() } -> std::convertible_to<at::Device>;
  { network.dtype() } -> std::convertible_to<at::ScalarType>;
};

namespace detail {

/// Whether evaluations of the network leave features to later ones.
template <class Network>
concept ReusesFeatures = requires(const Network& network, const at::Tensor& t, const TimeProjections& times,
                                  const ContextProjections& texts, const PlainAttention& attention, const Step& step,
                                  at::Tensor& deep) {
  { network.reuses(std::int64_t{1}) } -> std::convertible_to<bool>;
  { network(t, times, texts, attention, step, t, deep) } -> std::convertible_to<at::Tensor>;
};

/// The network's `fingerprint()`, or nothing if it has none.
template <class Network>
std::optional<std::uint64_t> fingerprint_of(const Network& network) {
  if constexpr (requires { network.fingerprint(); }) {
    return network.fingerprint();
  } else {
    return std::nullopt;
  }
}

}  // namespace detail

/// Stops compilation with one sentence unless `Network` is a `DenoisingNetwork`.
template <class Network>
consteval void require_denoising_network() {
  static_assert(DenoisingNetwork<Network>,
                "ip2p: DenoisingNetwork needs `project_time(Tensor)`, `project_context(Tensor)`, `operator()(Tensor x, "
                "TimeProjections, ContextProjections, Attention, Step)`, `in_channels()`, `device()` and `dtype()`, "
                "all const; see docs/reference/concepts.md#denoisingnetwork");
}

/// What training needs of a network, however it is built.
///
///     std::int64_t in_channels() const;    // out_channels(), plus any channels of a condition
///     std::int64_t out_channels() const;   // latent channels
///     at::Device device() const;
///     Module& module() const;   // holds the parameters; a torch::nn::Module serves as well
///     at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) const;
///
/// x is [B, in_channels(), h, w], timesteps [B] and context [B, tokens, width], all on `device()`; the prediction is
/// [B, out_channels(), h, w].
///
/// Laws: pure; a batch equals the loop over its samples; gradients flow from the prediction to the parameters; copies
/// share their parameters.
///
/// Skeleton:
/// \code
/// struct MyLayers : ip2p::Module { ... };
/// struct MyNetwork {
///   std::int64_t in_channels() const { return 8; }
///   std::int64_t out_channels() const { return 4; }
///   at::Device device() const { return layers->parameters().front().device(); }
///   MyLayers& module() const { return *layers; }
///   at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) const;
///   std::shared_ptr<MyLayers> layers = std::make_shared<MyLayers>();
/// };
/// static_assert(ip2p::TrainableNetwork<MyNetwork>);
/// \endcode
template <class Network>
concept TrainableNetwork = std::copy_constructible<Network> &&
    requires(const Network& network, const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) {
  { network.in_channels() } -> std::convertible_to<std::int64_t>;
  { network.out_channels() } -> std::convertible_to<std::int64_t>;
  { network.device() } -> std::convertible_to<at::Device>;
  { network.module().parameters() } -> std::convertible_to<std::vector<at::Tensor>>;
  { network(x, timesteps, context) } -> std::convertible_to<at::Tensor>;
};

/// Stops compilation with one sentence unless `Network` is a `TrainableNetwork`.
template <class Network>
consteval void require_trainable_network() {
  static_assert(TrainableNetwork<Network>,
                "ip2p: TrainableNetwork needs `in_channels()`, `out_channels()`, `device()`, `module()` with its "
                "parameters, and `Tensor operator()(Tensor x, Tensor timesteps, Tensor context)`, all const; see "
                "docs/reference/concepts.md#trainablenetwork");
}

}  // namespace ip2p
