#pragma once

/// \file
/// The loss curve as a picture.

#include <filesystem>
#include <vector>

#include "ip2p/train/loss_curve.hpp"

namespace example {

/// Writes the curve with a logarithmic axis of losses (left) over updates (below): single updates pale, their running
/// mean over 2 % of the run dark. Nothing is written for fewer than 2 points.
void plot_loss(const std::filesystem::path& path, const std::vector<ip2p::LossPoint>& points);

}  // namespace example
