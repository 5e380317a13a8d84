#pragma once

/// \file
/// A sheet of edits that differ in one or two settings.

#include <string>
#include <vector>

#include "ip2p/io/image_types.hpp"
#include "support/command_line.hpp"

namespace edit_image {

class Editing;
struct Photograph;

/// A setting and the values that it takes.
struct Axis {
  std::string name;
  std::vector<std::string> values;
};

/// Empty for the text of an axis, NAME=VALUE,VALUE,..., otherwise the error message.
std::string axis_problem(const std::string& text);

/// The axes that --grid names: columns, and rows if there are two.
std::vector<Axis> axes_of(const std::vector<std::string>& texts);

/// Sets the axis' setting. \param value one of its values
void set(example::RunOptions& run, const Axis& axis, const std::string& value);

/// The sheet: labels, the photograph, and its edits in the order of the axes' values.
ip2p::Image draw_grid(Editing& editing, const Photograph& photograph, const std::string& prompt,
                      const std::vector<Axis>& axes);

}  // namespace edit_image
