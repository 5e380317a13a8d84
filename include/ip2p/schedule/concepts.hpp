#pragma once

/// \file
/// Contract of this folder: a schedule chooses the noise levels at which a run evaluates its denoiser.
///
/// Skeleton for your own schedule:
///
///     struct HalvingSigmas {
///       ip2p::DiscreteSchedule training;                              // noise levels the model was trained on
///       std::vector<double> sigmas(std::int64_t n) const;             // n + 1 values, strictly decreasing, last 0
///       double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }
///     };
///     static_assert(ip2p::SchedulePolicy<HalvingSigmas>);             // then: ip2p::testing::check_schedule(...)

#include <concepts>
#include <cstdint>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

namespace detail {

template <class Policy>
concept HasSigmas = requires(const Policy& schedule, std::int64_t n) {
  { schedule.sigmas(n) } -> std::same_as<std::vector<double>>;
};

template <class Policy>
concept HasSigmaToT = requires(const Policy& schedule, double sigma) {
  { schedule.sigma_to_t(sigma) } -> std::convertible_to<double>;
};

template <class Policy>
concept HasInitialSigma = requires(const Policy& schedule, const std::vector<double>& sigmas) {
  { schedule.initial_sigma(sigmas) } -> std::convertible_to<double>;
};

/// Throws `Error` unless n >= 1.
inline void require_steps(std::int64_t n) { require(n >= 1, "steps: expected at least 1, found {}", n); }

}  // namespace detail

/// Noise levels of a sampling run, in the convention x = x0 + sigma * noise of k-diffusion and Karras et al. 2022.
///
///     std::vector<double> sigmas(std::int64_t n) const;   // n steps: n + 1 noise levels
///     double sigma_to_t(double sigma) const;              // the (fractional) timestep passed to the network
///
/// and optionally, if the initial unit-variance noise is scaled by something other than the first noise level:
///
///     double initial_sigma(const std::vector<double>& sigmas) const;
///
/// Laws (`ip2p::testing::check_schedule`):
///  1. `sigmas(n)` has n + 1 finite values, strictly decreasing, the last exactly 0;
///  2. `sigma_to_t` is finite at all levels of a run above 0 and never increases as sigma decreases (it may be
///     negative: networks trained as in Karras et al. 2022 are given ln(sigma) / 4);
///  3. `sigmas(n)` with n < 1 throws `Error`; equal calls give bit-identical results.
template <class Policy>
concept SchedulePolicy = std::copy_constructible<Policy> && detail::HasSigmas<Policy> && detail::HasSigmaToT<Policy>;

/// Fails to compile, with a one-sentence message, unless `Policy` is a `SchedulePolicy`.
template <class Policy>
consteval void require_schedule_policy() {
  static_assert(std::copy_constructible<Policy>,
                "ip2p: SchedulePolicy must be copyable; see docs/reference/concepts.md#schedulepolicy");
  static_assert(detail::HasSigmas<Policy>,
                "ip2p: SchedulePolicy needs `std::vector<double> sigmas(std::int64_t n) const`; "
                "see docs/reference/concepts.md#schedulepolicy");
  static_assert(detail::HasSigmaToT<Policy>,
                "ip2p: SchedulePolicy needs `double sigma_to_t(double sigma) const`; "
                "see docs/reference/concepts.md#schedulepolicy");
}

/// The lowest noise level that the model was trained on, if the schedule knows it (from a `DiscreteSchedule` member
/// `training`, or a member function of this name); otherwise 0. Inversion assumes that photographs have this level.
template <class Policy>
double lowest_trained_sigma(const Policy& schedule) {
  if constexpr (requires { schedule.lowest_trained_sigma(); }) {
    return schedule.lowest_trained_sigma();
  } else if constexpr (requires { schedule.training.sigma_min(); }) {
    return schedule.training.sigma_min();
  } else {
    return 0.0;
  }
}

/// The factor that scales unit-variance noise to the start of a run over `sigmas`: the policy's own rule if it has one,
/// otherwise the first noise level. Throws `Error` for an empty `sigmas`.
template <class Policy>
double initial_sigma(const Policy& schedule, const std::vector<double>& sigmas) {
  require_schedule_policy<Policy>();
  require(!sigmas.empty(), "sigmas: expected at least one value, found none");
  if constexpr (detail::HasInitialSigma<Policy>) {
    return schedule.initial_sigma(sigmas);
  } else {
    return sigmas.front();
  }
}

}  // namespace ip2p
