#pragma once

/// \file
/// Chooses a learning rate by name at run time; meant for a program's command line.

#include <fmt/ranges.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/train/learning_rate.hpp"

namespace ip2p {

/// Holds one of `Rates`, and is a `LearningRatePolicy` itself. Each alternative has a `static constexpr
/// std::string_view name` and a static `from_settings(const LearningRateSettings&)`; a program adds its own by
/// extending the list.
template <LearningRatePolicy... Rates>
class AnyLearningRateOf {
 public:
  /// Holds any of the alternatives.
  template <class Rate>
  requires(std::same_as<Rate, Rates> || ...) AnyLearningRateOf(Rate rate)
      : rate_(std::move(rate)) {}  // NOLINT(google-explicit-constructor)

  /// The learning rate called `name`. \throws Error listing the known names for any other
  static AnyLearningRateOf named(std::string_view name, const LearningRateSettings& settings = {}) {
    std::vector<AnyLearningRateOf> found;
    ((name == Rates::name ? found.push_back(Rates::from_settings(settings)) : void()), ...);
    require(!found.empty(), "learning rate: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` accepts.
  static constexpr std::array<std::string_view, sizeof...(Rates)> names() { return {Rates::name...}; }

  /// Name of the alternative held.
  [[nodiscard]] std::string_view name() const {
    return std::visit([](const auto& rate) { return std::string_view(rate.name); }, rate_);
  }

  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    return std::visit([step](const auto& rate) { return rate(step); }, rate_);
  }

 private:
  std::variant<Rates...> rate_;
};

/// The built-in learning rates, by name; the first is the published recipe's.
using AnyLearningRate = AnyLearningRateOf<ConstantRate, WarmupConstant, LinearDecay, CosineDecay, CosineRestarts,
                                          PolynomialDecay, WarmupCosine>;

static_assert(LearningRatePolicy<AnyLearningRate>);

}  // namespace ip2p
