#pragma once

/// \file
/// The noise levels that a latent diffusion model was trained on, and the mapping between them and timesteps.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// How the variances beta_t grow over the training timesteps.
enum class BetaCurve {
  linear,         ///< betas evenly spaced (Ho et al. 2020).
  scaled_linear,  ///< square roots of betas evenly spaced (latent diffusion, Stable Diffusion).
  squared_cosine  ///< alpha-bar from cos^2 with betas capped at .999 (Nichol and Dhariwal 2021).
};

/// Parameters of the training noise. The defaults are those of Stable Diffusion and InstructPix2Pix.
struct TrainingNoise {
  std::int64_t timesteps = 1000;               ///< Training timesteps, 2 to 1,000,000.
  double beta_start = 0.00085;                 ///< First beta, in (0, 1); not used by `squared_cosine`.
  double beta_end = 0.012;                     ///< Last beta, in (0, 1); not used by `squared_cosine`.
  BetaCurve curve = BetaCurve::scaled_linear;  ///< How betas grow from the first to the last.
  std::vector<double> betas{};     ///< When not empty: the betas themselves, one a timestep; the rest is ignored.
  bool single_precision = false;   ///< Round betas and 1 - beta to fp32 before multiplying, as diffusers does.
  bool zero_terminal_snr = false;  ///< Shift and scale sqrt(alpha-bar) so that the last is 0 (Lin et al. 2023).
};

/// Training noise levels sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t), strictly increasing in t, and the maps
/// between sigma and fractional timesteps, linear in log sigma between neighbours.
///
/// Reference: k-diffusion `external.DiscreteSchedule`, as used by the released InstructPix2Pix. Betas and their
/// products are computed in double, then alpha_bar is rounded to fp32, because that is how checkpoints store it (near t
/// = 0 the rounding changes sigma by 1e-5). Everything else is double.
class DiscreteSchedule {
 public:
  /// The noise levels of Stable Diffusion and InstructPix2Pix.
  DiscreteSchedule() : DiscreteSchedule(TrainingNoise{}) {}

  /// Throws `Error` for parameters out of range, and unless the noise levels are finite and strictly increasing.
  explicit DiscreteSchedule(const TrainingNoise& noise) {
    const std::vector<double> betas = noise.betas.empty() ? curve(noise) : noise.betas;
    require(betas.size() >= 2, "training timesteps: expected at least 2, found {}", betas.size());
    alphas_cumprod_.reserve(betas.size());
    double product = 1.0;
    for (const double beta : betas) {
      require(beta > 0.0 && beta < 1.0, "training betas: expected values in (0, 1), found {}", beta);
      product *= rounded(1.0 - rounded(beta, noise), noise);
      alphas_cumprod_.push_back(product);
    }
    if (noise.zero_terminal_snr) rescale_to_zero_snr();
    for (double& alpha : alphas_cumprod_) {
      alpha = static_cast<double>(static_cast<float>(alpha));
      const double sigma = std::sqrt((1.0 - alpha) / alpha);
      require(std::isfinite(sigma) && sigma > (sigmas_.empty() ? 0.0 : sigmas_.back()),
              "training betas: expected noise levels that rise strictly, found {} at timestep {}", sigma,
              sigmas_.size());
      sigmas_.push_back(sigma);
      log_sigmas_.push_back(std::log(sigma));
    }
  }

  /// Number of training timesteps N; valid timesteps are the reals in [0, N - 1].
  [[nodiscard]] std::int64_t timesteps() const { return static_cast<std::int64_t>(sigmas_.size()); }

  /// alpha_bar_t for t = 0 ... N - 1, strictly decreasing, in (0, 1).
  [[nodiscard]] const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

  /// sigma_t for t = 0 ... N - 1, strictly increasing.
  [[nodiscard]] const std::vector<double>& training_sigmas() const { return sigmas_; }

  /// Noise level of timestep 0.
  [[nodiscard]] double sigma_min() const { return sigmas_.front(); }
  /// Noise level of the last timestep.
  [[nodiscard]] double sigma_max() const { return sigmas_.back(); }

  /// Noise level of a fractional timestep, linear in log sigma. Throws `Error` unless t is in [0, N - 1].
  [[nodiscard]] double t_to_sigma(double t) const {
    require(t >= 0.0 && t <= static_cast<double>(timesteps() - 1), "timestep: expected a value in [0, {}], found {}",
            timesteps() - 1, t);
    const auto low = static_cast<std::size_t>(t);
    const double share = t - std::floor(t);
    if (share == 0.0) return sigmas_[low];
    return std::exp((1.0 - share) * log_sigmas_[low] + share * log_sigmas_[low + 1]);
  }

  /// Fractional timestep of a noise level, in [0, N - 1]; levels outside the trained range are clamped to it.
  /// Throws `Error` for negative or non-finite sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const {
    require(std::isfinite(sigma) && sigma >= 0.0, "sigma: expected a finite value >= 0, found {}", sigma);
    const double log_sigma = std::log(sigma);
    const auto above = std::upper_bound(log_sigmas_.begin(), log_sigmas_.end(), log_sigma) - log_sigmas_.begin();
    const auto low = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(above - 1, 0, timesteps() - 2));
    const double step = log_sigmas_[low + 1] - log_sigmas_[low];
    return static_cast<double>(low) + std::clamp((log_sigma - log_sigmas_[low]) / step, 0.0, 1.0);
  }

 private:
  static double rounded(double value, const TrainingNoise& noise) {
    return noise.single_precision ? static_cast<double>(static_cast<float>(value)) : value;
  }

  static std::vector<double> curve(const TrainingNoise& noise) {
    require(noise.timesteps >= 2 && noise.timesteps <= 1'000'000, "training timesteps: expected 2 to 1000000, found {}",
            noise.timesteps);
    const auto last_step = static_cast<double>(noise.timesteps - 1);
    const bool roots = noise.curve == BetaCurve::scaled_linear;
    const double first = rounded(roots ? std::sqrt(noise.beta_start) : noise.beta_start, noise);
    const double last = rounded(roots ? std::sqrt(noise.beta_end) : noise.beta_end, noise);
    const double stride = rounded(rounded(last - first, noise) / last_step, noise);
    const auto alpha_bar = [](double time) {
      const double c = std::cos((time + 0.008) / 1.008 * std::numbers::pi / 2);
      return c * c;
    };
    std::vector<double> betas;
    betas.reserve(static_cast<std::size_t>(noise.timesteps));
    for (std::int64_t i = 0; i < noise.timesteps; ++i) {
      const auto t = static_cast<double>(i);
      if (noise.curve == BetaCurve::squared_cosine) {
        const double count = last_step + 1.0;
        betas.push_back(std::min(1.0 - alpha_bar((t + 1.0) / count) / alpha_bar(t / count), 0.999));
      } else {
        // Measured from the nearer end, as in torch.linspace, to get the same rounding.
        const bool lower = i < noise.timesteps / 2;
        const double value = rounded(lower ? first + stride * t : last - stride * (last_step - t), noise);
        betas.push_back(roots ? value * value : value);
      }
    }
    return betas;
  }

  /// Lin et al. 2023, algorithm 1. The last alpha_bar would be 0 and its sigma infinite, so it is set to 2^-24, as in
  /// diffusers' Euler schedulers.
  void rescale_to_zero_snr() {
    const double first = std::sqrt(alphas_cumprod_.front());
    const double last = std::sqrt(alphas_cumprod_.back());
    for (double& alpha : alphas_cumprod_) {
      const double root = (std::sqrt(alpha) - last) * first / (first - last);
      alpha = root * root;
    }
    alphas_cumprod_.back() = 0x1p-24;
  }

  std::vector<double> alphas_cumprod_;
  std::vector<double> sigmas_;
  std::vector<double> log_sigmas_;
};

}  // namespace ip2p
