#pragma once

/// \file
/// A denoising network of any type, chosen at run time.

#include <ATen/ops/index_select.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Holds any `DenoisingNetwork` by value and is one itself. Copying copies what is held (a model handle still shares
/// its weights).
class AnyNetwork {
 public:
  /// Takes any network. Implicit, so that a network can be passed wherever an `AnyNetwork` is expected.
  template <class Network>
  requires(!std::same_as<std::remove_cvref_t<Network>, AnyNetwork>)
      AnyNetwork(Network network)  // NOLINT(google-explicit-constructor)
      : held_(std::make_unique<Held<Network>>(std::move(network))) {
    require_denoising_network<Network>();
  }

  AnyNetwork(const AnyNetwork& other) : held_(other.held_->clone()) {}
  AnyNetwork(AnyNetwork&&) noexcept = default;
  AnyNetwork& operator=(AnyNetwork other) noexcept {
    held_ = std::move(other.held_);
    return *this;
  }
  ~AnyNetwork() = default;

  /// Projections of the timesteps, as the network answers.
  [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const {
    return held_->project_time(timesteps);
  }
  /// Projections of the text, as the network answers.
  [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const {
    return held_->project_context(context);
  }

  /// Evaluates the network held. \param rows see `UNet`; for a network without this argument x is expanded to one row
  /// per text first
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step, const at::Tensor& rows = {}) const {
    return held_->evaluate(x, times, texts, AttentionReference(attend), step, rows);
  }

  /// Whether the network held goes on from features of `steps_ago` steps before (`DeepCache`).
  [[nodiscard]] bool reuses(std::int64_t steps_ago) const { return held_->reuses(steps_ago); }

  /// The same with features from or for another evaluation. \param deep stays as it is if the network held has none
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step, const at::Tensor& rows, at::Tensor& deep) const {
    return held_->evaluate_reusing(x, times, texts, AttentionReference(attend), step, rows, deep);
  }

  /// See `UNet::with_deep_features`. \throws Error if the network held has no such call
  template <class Attention>
  at::Tensor with_deep_features(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                                const Attention& attend, const Step& step, const at::Tensor& rows, std::int64_t shallow,
                                at::Tensor& deep) const {
    return held_->with_deep_features(x, times, texts, AttentionReference(attend), step, rows, shallow, deep);
  }

  /// That of the network held; nothing if it has none.
  [[nodiscard]] std::optional<std::uint64_t> fingerprint() const { return held_->fingerprint(); }

  /// Channels of the latents and their condition.
  [[nodiscard]] std::int64_t in_channels() const { return held_->in_channels(); }
  /// Where the network's weights are.
  [[nodiscard]] at::Device device() const { return held_->device(); }
  /// Of the network's arithmetic.
  [[nodiscard]] at::ScalarType dtype() const { return held_->dtype(); }

  /// Moves and converts the network's weights; does nothing if the network has no `to`.
  void to(at::Device device, at::ScalarType dtype) { held_->to(device, dtype); }

  /// Name of the first layer to produce a non-finite value while `evaluate` runs; empty if none does or the network
  /// cannot tell.
  [[nodiscard]] std::string first_non_finite(const std::function<void()>& evaluate) const {
    return held_->first_non_finite(evaluate);
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    [[nodiscard]] virtual std::unique_ptr<Interface> clone() const = 0;
    [[nodiscard]] virtual TimeProjections project_time(const at::Tensor& timesteps) const = 0;
    [[nodiscard]] virtual ContextProjections project_context(const at::Tensor& context) const = 0;
    [[nodiscard]] virtual at::Tensor evaluate(const at::Tensor& x, const TimeProjections& times,
                                              const ContextProjections& texts, const AttentionReference& attend,
                                              const Step& step, const at::Tensor& rows) const = 0;
    [[nodiscard]] virtual bool reuses(std::int64_t steps_ago) const = 0;
    [[nodiscard]] virtual at::Tensor evaluate_reusing(const at::Tensor& x, const TimeProjections& times,
                                                      const ContextProjections& texts, const AttentionReference& attend,
                                                      const Step& step, const at::Tensor& rows,
                                                      at::Tensor& deep) const = 0;
    [[nodiscard]] virtual at::Tensor with_deep_features(const at::Tensor& x, const TimeProjections& times,
                                                        const ContextProjections& texts,
                                                        const AttentionReference& attend, const Step& step,
                                                        const at::Tensor& rows, std::int64_t shallow,
                                                        at::Tensor& deep) const = 0;
    [[nodiscard]] virtual std::optional<std::uint64_t> fingerprint() const = 0;
    [[nodiscard]] virtual std::int64_t in_channels() const = 0;
    [[nodiscard]] virtual at::Device device() const = 0;
    [[nodiscard]] virtual at::ScalarType dtype() const = 0;
    virtual void to(at::Device device, at::ScalarType dtype) = 0;
    [[nodiscard]] virtual std::string first_non_finite(const std::function<void()>& evaluate) const = 0;
  };

  template <class Network>
  struct Held final : Interface {
    explicit Held(Network given) : network(std::move(given)) {}
    [[nodiscard]] std::unique_ptr<Interface> clone() const override { return std::make_unique<Held>(network); }
    [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const override {
      return network.project_time(timesteps);
    }
    [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const override {
      return network.project_context(context);
    }
    [[nodiscard]] at::Tensor evaluate(const at::Tensor& x, const TimeProjections& times,
                                      const ContextProjections& texts, const AttentionReference& attend,
                                      const Step& step, const at::Tensor& rows) const override {
      if constexpr (requires { network(x, times, texts, attend, step, rows); }) {
        return network(x, times, texts, attend, step, rows);
      } else {
        return network(rows.defined() ? at::index_select(x, 0, rows) : x, times, texts, attend, step);
      }
    }
    [[nodiscard]] bool reuses(std::int64_t steps_ago) const override {
      if constexpr (detail::ReusesFeatures<Network>) return network.reuses(steps_ago);
      return false;
    }
    [[nodiscard]] at::Tensor evaluate_reusing(const at::Tensor& x, const TimeProjections& times,
                                              const ContextProjections& texts, const AttentionReference& attend,
                                              const Step& step, const at::Tensor& rows,
                                              at::Tensor& deep) const override {
      if constexpr (detail::ReusesFeatures<Network>) {
        return network(x, times, texts, attend, step, rows, deep);
      } else {
        return evaluate(x, times, texts, attend, step, rows);
      }
    }
    [[nodiscard]] at::Tensor with_deep_features(const at::Tensor& x, const TimeProjections& times,
                                                const ContextProjections& texts, const AttentionReference& attend,
                                                const Step& step, const at::Tensor& rows, std::int64_t shallow,
                                                at::Tensor& deep) const override {
      if constexpr (requires { network.with_deep_features(x, times, texts, attend, step, rows, shallow, deep); }) {
        return network.with_deep_features(x, times, texts, attend, step, rows, shallow, deep);
      } else {
        throw_error("AnyNetwork: expected a network with skip connections, such as UNet, found one without");
      }
    }
    [[nodiscard]] std::optional<std::uint64_t> fingerprint() const override { return detail::fingerprint_of(network); }
    [[nodiscard]] std::int64_t in_channels() const override { return network.in_channels(); }
    [[nodiscard]] at::Device device() const override { return network.device(); }
    [[nodiscard]] at::ScalarType dtype() const override { return network.dtype(); }
    void to(at::Device device, at::ScalarType dtype) override {
      if constexpr (requires { network.to(device, dtype); }) network.to(device, dtype);
    }
    [[nodiscard]] std::string first_non_finite(const std::function<void()>& evaluate) const override {
      if constexpr (requires { network.first_non_finite(evaluate); }) return network.first_non_finite(evaluate);
      return {};
    }
    Network network;
  };

  std::unique_ptr<Interface> held_;
};
static_assert(DenoisingNetwork<AnyNetwork>);

}  // namespace ip2p
