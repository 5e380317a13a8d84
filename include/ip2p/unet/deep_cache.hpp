#pragma once

/// \file
/// DeepCache: reuses the deep part of the UNet between neighbouring steps (Ma, Fang and Wang, 2023). Approximate.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/fingerprint.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Options of `DeepCache`; the defaults are the published ones.
struct DeepCacheOptions {
  /// Every n-th step evaluates the whole network, the others only its shallow part; >= 1, and 1 is exact.
  std::int64_t interval = 3;
  /// Number of outermost skip connections that the shallow part includes: from 1 to one less than the network has. 2 is
  /// one residual block with its transformer on the way down and two on the way up (the authors' branch 0). More cost
  /// more time and give a smaller error.
  std::int64_t shallow = 2;
};

/// A network whose runs evaluate its deep part at every n-th step only, and take over its features in between: they
/// change slowly from step to step. A whole run takes about 1/n of the time plus the shallow part's, and its result is
/// another picture than the exact one, close to it for small n. Attention policies see the layers that are evaluated.
///
/// A pipeline keeps the features, apart for each run and each set of branches, so that this is as pure as any network:
/// evaluated by itself, outside a run, it is exact.
///
/// \code
/// edit.set_unet(ip2p::DeepCache(edit.unet(), {.interval = 3}));   // of an `Editor`
/// \endcode
///
/// Reference: horseee/DeepCache, `cache_interval` and `cache_branch_id` with uniform steps.
template <class Network>
class DeepCache {
  static_assert((require_denoising_network<Network>(), true));

 public:
  /// \param network a `UNet`, or an `AnyNetwork` that holds one  \throws Error for an interval out of range
  explicit DeepCache(Network network, DeepCacheOptions options = {}) : network_(std::move(network)), options_(options) {
    require(options_.interval >= 1, "DeepCache: interval: expected at least 1, found {}", options_.interval);
    require(options_.shallow >= 1, "DeepCache: shallow: expected at least 1 skip connection, found {}",
            options_.shallow);
  }

  /// As the network itself.
  [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const {
    return network_.project_time(timesteps);
  }
  /// As the network itself.
  [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const {
    return network_.project_context(context);
  }

  /// The exact prediction, as the network's.
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step, const at::Tensor& rows = {}) const {
    return network_(x, times, texts, attend, step, rows);
  }

  /// Whether a step goes on from the features of `steps_ago` steps before.
  [[nodiscard]] bool reuses(std::int64_t steps_ago) const { return steps_ago < options_.interval; }

  /// The exact prediction, which sets `deep`; or if it is defined, the prediction that goes on from it.
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step, const at::Tensor& rows, at::Tensor& deep) const {
    return network_.with_deep_features(x, times, texts, attend, step, rows, options_.shallow, deep);
  }

  /// The network's, apart from that of other options.
  [[nodiscard]] std::optional<std::uint64_t> fingerprint() const {
    const auto own = detail::fingerprint_of(network_);
    if (!own) return std::nullopt;
    detail::Fingerprint all;
    all.add(*own);
    all.add(static_cast<std::uint64_t>(options_.shallow));
    return all.value();
  }

  /// Channels of the latents and their condition.
  [[nodiscard]] std::int64_t in_channels() const { return network_.in_channels(); }
  /// Where the network computes.
  [[nodiscard]] at::Device device() const { return network_.device(); }
  /// Of the network's arithmetic.
  [[nodiscard]] at::ScalarType dtype() const { return network_.dtype(); }

  /// Moves and converts the network's weights.
  void to(at::Device device, at::ScalarType dtype) requires requires(Network& network) { network.to(device, dtype); }
  { network_.to(device, dtype); }

  /// As the network's.
  template <class Evaluate>
  [[nodiscard]] std::string first_non_finite(Evaluate&& evaluate) const requires requires(const Network& network) {
    network.first_non_finite(evaluate);
  }
  { return network_.first_non_finite(std::forward<Evaluate>(evaluate)); }

  /// The network itself.
  [[nodiscard]] const Network& network() const { return network_; }
  /// Interval and depth.
  [[nodiscard]] const DeepCacheOptions& options() const { return options_; }

 private:
  Network network_;
  DeepCacheOptions options_;
};

}  // namespace ip2p
