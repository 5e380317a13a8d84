#pragma once

/// \file
/// A schedule chosen by name at run time, for code that handles user input.

#include <fmt/ranges.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/schedule/align_your_steps_sigmas.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/exponential_sigmas.hpp"
#include "ip2p/schedule/karras_sigmas.hpp"
#include "ip2p/schedule/lcm_sigmas.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/schedule/polyexponential_sigmas.hpp"

namespace ip2p {

/// One of `Schedules`, itself a `SchedulePolicy`. Each alternative has a `static constexpr std::string_view name` and
/// a static `from_config(const SchedulerConfig&)`; to add your own, instantiate this with a longer list.
template <SchedulePolicy... Schedules>
class AnyScheduleOf {
 public:
  /// Any of the alternatives.
  template <class Schedule>
  requires(std::same_as<Schedule, Schedules> || ...) AnyScheduleOf(Schedule schedule)
      : schedule_(std::move(schedule)) {}  // NOLINT(google-explicit-constructor)

  /// The schedule called `name`, for a model with this configuration. Throws `Error` for an unknown name, listing the
  /// known ones.
  static AnyScheduleOf named(std::string_view name, const SchedulerConfig& config = {}) {
    std::vector<AnyScheduleOf> found;
    ((name == Schedules::name ? found.push_back(Schedules::from_config(config)) : void()), ...);
    require(!found.empty(), "schedule: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` accepts.
  static constexpr std::array<std::string_view, sizeof...(Schedules)> names() { return {Schedules::name...}; }

  /// Name of the schedule held.
  [[nodiscard]] std::string_view name() const {
    return std::visit([](const auto& schedule) { return std::string_view(schedule.name); }, schedule_);
  }

  /// n + 1 noise levels, strictly decreasing, the last 0. \throws Error for n < 1
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    return std::visit([n](const auto& schedule) { return schedule.sigmas(n); }, schedule_);
  }

  /// The timestep that the network is told at a noise level.
  [[nodiscard]] double sigma_to_t(double sigma) const {
    return std::visit([sigma](const auto& schedule) -> double { return schedule.sigma_to_t(sigma); }, schedule_);
  }

  /// Factor of the unit noise with which a run over `sigmas` begins.
  [[nodiscard]] double initial_sigma(const std::vector<double>& sigmas) const {
    return std::visit([&](const auto& schedule) { return ip2p::initial_sigma(schedule, sigmas); }, schedule_);
  }

  /// The lowest noise level that the network was trained on, as the schedule knows it.
  [[nodiscard]] double lowest_trained_sigma() const {
    return std::visit([](const auto& schedule) { return ip2p::lowest_trained_sigma(schedule); }, schedule_);
  }

 private:
  std::variant<Schedules...> schedule_;
};

/// The built-in schedules. The first is the one in the released program; `LinearSigmas` is diffusers' default.
using AnySchedule = AnyScheduleOf<LogLinearSigmas, KarrasSigmas, LinearSigmas, ExponentialSigmas, PolyexponentialSigmas,
                                  AlignYourStepsSigmas, LcmSigmas>;

static_assert(SchedulePolicy<AnySchedule>);

}  // namespace ip2p
