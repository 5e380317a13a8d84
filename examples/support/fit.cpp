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
                 "where the photograph's proportions are not those of the edit: crop it, pad it by its mirror image, "
                 "which is taken off again, or stretch it (default: crop; stretch with --numerics diffusers)")
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

}  // namespace example
