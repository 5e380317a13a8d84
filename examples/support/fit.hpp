#pragma once

/// \file
/// How photographs are brought to the size at which they are edited: the option, and what is said of it before a run.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/run_settings.hpp"

namespace CLI {
class App;
}

namespace example {

/// Adds --fit. \param fit empty where the numerics decide
void add_fit(CLI::App& app, std::string& fit);

/// \param fit as `add_fit` sets it  \param resolution, numerics of the run
ip2p::FitRule fit_rule(const std::string& fit, std::optional<std::int64_t> resolution, ip2p::Numerics numerics);

/// Prints what becomes of a photograph. \param full_size whether the result gets the photograph's own size
void report_photo(const std::filesystem::path& path, const ip2p::FittedPhoto& fitted, bool full_size);

/// The same where only a part of it is redrawn; warns of what of the mask lies at edges that the model does not see.
/// \param mask of the photograph's size
void report_photo(const std::filesystem::path& path, const ip2p::FittedPhoto& fitted, bool full_size,
                  const ip2p::Image& mask);

/// Settings under which `pipeline` takes `fitted.image` as it is.
template <class Pipeline>
ip2p::RunSettings take_fitted(Pipeline& pipeline, ip2p::RunSettings settings, const ip2p::FittedPhoto& fitted) {
  pipeline.defaults.resolution = fitted.resolution;
  settings.resolution = fitted.resolution;
  return pipeline.completed(settings);
}

}  // namespace example
