#include "fit.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "one_of.hpp"

namespace example {

void add_fit(CLI::App& app, std::string& fit) {
  app.add_option("--fit", fit,
                 "if the photograph's proportions differ from those of the edit: crop it, pad it with its mirror image "
                 "and cut that off afterwards, or stretch it (default: crop; stretch with --numerics diffusers)")
      ->check(one_of(ip2p::fit_names));
}

ip2p::FitRule fit_rule(const std::string& fit, std::optional<std::int64_t> resolution, ip2p::Numerics numerics) {
  ip2p::FitRule rule{.resolution = resolution, .numerics = numerics};
  const auto* name = std::find(ip2p::fit_names.begin(), ip2p::fit_names.end(), fit);
  if (name != ip2p::fit_names.end()) rule.fit = static_cast<ip2p::Fit>(name - ip2p::fit_names.begin());
  return rule;
}

void report_photo(const std::filesystem::path& path, const ip2p::FittedPhoto& fitted, bool full_size) {
  fmt::print("photo: {}, {}{}\n", path.string(), ip2p::describe_fit(fitted),
             full_size ? ", and brought back to full size" : "");
}

/// The percentage of the mask that lies beyond the part of the photograph that the model sees.
static double unseen_share(const ip2p::Image& mask, const ip2p::Box& seen) {
  std::int64_t all = 0, unseen = 0;
  for (std::int64_t y = 0; y < mask.height; ++y) {
    for (std::int64_t x = 0; x < mask.width; ++x) {
      const auto* pixel = mask.pixels.data() + (y * mask.width + x) * 3;
      if (2 * (pixel[0] + pixel[1] + pixel[2]) <= 3 * 255) continue;
      const auto across = static_cast<float>(x) + 0.5F, down = static_cast<float>(y) + 0.5F;
      ++all;
      if (across < seen.left || across > seen.right || down < seen.top || down > seen.bottom) ++unseen;
    }
  }
  return all == 0 ? 0.0 : 100.0 * static_cast<double>(unseen) / static_cast<double>(all);
}

void report_photo(const std::filesystem::path& path, const ip2p::FittedPhoto& fitted, bool full_size,
                  const ip2p::Image& mask) {
  fmt::print("photo: {}, {}{}\n", path.string(), ip2p::describe_fit(fitted),
             full_size ? ", and brought back to full size, where only the mask is redrawn" : "");
  const auto unseen = unseen_share(mask, fitted.seen);
  if (unseen < 0.5) return;
  fmt::print(stderr,
             "warning: {:.0f} % of the mask lies at edges that the model does not see; {}; with --fit pad it sees the "
             "whole photograph\n",
             unseen,
             !full_size      ? "the result lacks them"
             : unseen < 99.5 ? "they are changed like what lies next to them"
                             : "nothing is redrawn");
}

}  // namespace example
