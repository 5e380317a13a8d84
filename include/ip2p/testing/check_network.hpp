#pragma once

/// \file
/// The laws of `DenoisingNetwork`.

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/testing/law.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p::testing {

/// What `check_network` needs to know about a network.
struct NetworkCheck {
  std::int64_t context_width = 768;  ///< Width of the text context.
  std::int64_t tokens = 77;          ///< Tokens of the context.
  std::int64_t out_channels = 4;     ///< Channels of its prediction.

  /// Heights and widths of the latents to test. Networks must accept any, because pictures may have any size that is a
  /// multiple of the codec's `downscale()`.
  std::vector<std::array<std::int64_t, 2>> sizes = {{8, 8}, {5, 7}};

  double tolerance = 1e-4;  ///< Between a sample in a batch and alone, relative to 1 + its values.
};

/// Plain attention that records the sites at which it is called.
struct NotingAttention {
  /// Plain attention is.
  static constexpr bool uniform_over_branches = true;
  std::vector<AttentionSite>* sites;

  /// Plain attention. \throws Error where a site does not say the size of its map
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    expect_law(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && q.size(2) == site.height * site.width,
               "DenoisingNetwork", "a site says the size of its map", "found {}x{} for queries {}", site.height,
               site.width, shape_text(q.sizes()));
    sites->push_back(site);
    return PlainAttention{}(site, q, k, v);
  }
};

/// Throws `Error` naming the first law of `DenoisingNetwork` that `network` breaks.
template <class Network>
void check_network(const Network& network, const NetworkCheck& check = {}) {
  require_denoising_network<Network>();
  constexpr auto role = "DenoisingNetwork";
  const std::int64_t channels = network.in_channels();
  expect_law(channels >= 1, role, "in_channels() is at least 1", "found {}", channels);
  const Step step{.index = 3, .count = 10, .sigma = 2.5, .sigma_next = 1.5};
  const auto on_device = [&](const at::Tensor& x) { return x.to(network.device()); };
  const auto context = on_device(CounterNoise(2).normal({2, check.tokens, check.context_width}, 0));
  const auto moments = on_device(at::tensor({601.0F, 24.5F}));
  const TimeProjections times = network.project_time(moments);
  const ContextProjections texts = network.project_context(context);
  const auto row = [](const auto& tensor, std::int64_t i) { return tensor.narrow(0, i, 1); };

  for (const auto& [height, width] : check.sizes) {
    const auto x = on_device(CounterNoise(1).normal({2, channels, height, width}, 0));
    const auto before = x.clone();
    const auto call = [&](const at::Tensor& input, const TimeProjections& t,
                          const ContextProjections& c) -> at::Tensor {
      return network(input, t, c, PlainAttention{}, step);
    };
    const auto result = call(x, times, texts);
    const std::vector<std::int64_t> expected{2, check.out_channels, height, width};
    expect_law(result.defined() && result.sizes() == at::IntArrayRef(expected) && result.is_floating_point(), role,
               "the prediction is [B,C,h,w]", "expected {}, found {}", shape_text(expected), tensor_text(result));
    expect_law(result.device() == x.device(), role, "the prediction is on device()", "expected {}, found {}",
               x.device().str(), result.device().str());
    const auto where = fmt::format("latents of {}x{}", height, width);
    expect_finite(result, role, "values are finite", where);
    expect_same_bits(x, before, role, "the argument is not changed", where);
    expect_same_bits(call(x, times, texts), result, role, "equal calls give equal bits", where);
    const Network copy(network);
    expect_same_bits(copy(x, times, texts, PlainAttention{}, step), result, role, "a copy has the same weights", where);

    std::vector<at::Tensor> singles;
    for (std::int64_t i = 0; i < 2; ++i) {
      singles.push_back(
          call(row(x, i), network.project_time(row(moments, i)), network.project_context(row(context, i))));
    }
    expect_close(result, at::cat(singles), check.tolerance, role, "a batch equals the loop over its samples", where);
    const auto first = network.project_time(row(moments, 0));
    expect_close(call(x, first, texts), call(x, network.project_time(row(moments, 0).expand({2})), texts),
                 check.tolerance, role, "one timestep serves all samples", "against the timestep repeated");
    expect_law(!same_bits(result, call(x, first, texts)), role, "the prediction depends on the timestep",
               "it is the same at 601 and 24.5");
    expect_law(!same_bits(result, call(x, times, network.project_context(context.flip(0)))), role,
               "the prediction depends on the text", "it is the same for two texts");

    std::vector<AttentionSite> sites;
    const at::Tensor noted = network(x, times, texts, NotingAttention{&sites}, step);
    expect_same_bits(noted, result, role, "watching attention changes nothing", where);
    std::set<std::pair<std::int64_t, bool>> seen;
    std::size_t cross = 0;
    for (const auto& site : sites) {
      expect_law(seen.emplace(site.layer, site.cross).second, role,
                 "the attention policy is called once at each attention layer", "twice at {}-attention of layer {}",
                 site.cross ? "cross" : "self", site.layer);
      expect_law(site.step.index == step.index && site.step.count == step.count && site.step.sigma == step.sigma &&
                     site.step.sigma_next == step.sigma_next,
                 role, "sites carry the step of the call", "expected step {} of {}, found {} of {} at layer {}",
                 step.index, step.count, site.step.index, site.step.count, site.layer);
      cross += site.cross ? 1 : 0;
    }
    expect_law(cross == texts.size(), role, "the attention policy is called once at each attention layer",
               "expected {} calls, one for each projected text, found {}", texts.size(), cross);

    if constexpr (detail::ReusesFeatures<Network>) {
      at::Tensor deep;
      const auto again = [&]() -> at::Tensor {
        return network(x, times, texts, PlainAttention{}, step, at::Tensor(), deep);
      };
      expect_law(same_bits(again(), result), role, "a call that leaves features to others predicts the same",
                 "another prediction came");
      expect_law(!deep.defined() || close(again(), result, check.tolerance), role,
                 "going on from the features of the same input predicts the same", "another prediction came");
    }

    if constexpr (requires(const at::Tensor& rows) { network(x, first, texts, PlainAttention{}, step, rows); }) {
      const auto rows = on_device(at::tensor({std::int64_t{1}, std::int64_t{0}, std::int64_t{1}}));
      const auto three = network.project_context(
          context.index_select(0, on_device(at::tensor({std::int64_t{0}, std::int64_t{0}, std::int64_t{1}}))));
      expect_close(network(x, first, three, PlainAttention{}, step, rows), call(x.index_select(0, rows), first, three),
                   check.tolerance, role, "with `rows`, row r belongs to row rows[r] of x", "against repeated rows");
    }
  }
}

}  // namespace ip2p::testing
