#pragma once

/// \file
/// Choice of a learning rate at run time, by name; for the edge of a program.

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

/// One of `Rates`, itself a `LearningRatePolicy`. Each alternative has a `static constexpr std::string_view name` and a
/// static `from_settings(const LearningRateSettings&)`; a program adds its own by naming a longer list.
template <LearningRatePolicy... Rates>
class AnyLearningRateOf {
 public:
  /// Any of the alternatives.
  template <class Rate>
  requires(std::same_as<Rate, Rates> || ...) AnyLearningRateOf(Rate rate)
      : rate_(std::move(rate)) {}  // NOLINT(google-explicit-constructor)

  /// The learning rate called `name`. Throws `Error` that lists the known names.
  static AnyLearningRateOf named(std::string_view name, const LearningRateSettings& settings = {}) {
    std::vector<AnyLearningRateOf> found;
    ((name == Rates::name ? found.push_back(Rates::from_settings(settings)) : void()), ...);
    require(!found.empty(), "learning rate: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` knows.
  static constexpr std::array<std::string_view, sizeof...(Rates)> names() { return {Rates::name...}; }

  /// The alternative's own name.
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

/// The learning rates that ship, by name; the first is the published recipe's.
using AnyLearningRate = AnyLearningRateOf<ConstantRate, WarmupConstant, LinearDecay, CosineDecay, CosineRestarts,
                                          PolynomialDecay, WarmupCosine>;

static_assert(LearningRatePolicy<AnyLearningRate>);

}  // namespace ip2p
