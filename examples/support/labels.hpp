#pragma once

/// \file
/// Pictures with labels: rows and sheets that say what they show.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ip2p/io/image_types.hpp"

namespace example {

/// Text, dark on white, broken into lines of at most `width` pixels; the wider, the larger. ASCII alone: other
/// characters are shown as question marks.
ip2p::Image text_strip(const std::string& text, std::int64_t width);

/// Pictures of one height side by side, as `side_by_side`, each under its label. \param labels one a picture
ip2p::Image labelled_row(std::span<const ip2p::Image> pictures, std::span<const std::string> labels);

/// A table of pictures.
struct Sheet {
  std::string title;                 ///< Over all of it.
  std::vector<std::string> columns;  ///< What each column shows.
  std::vector<std::string> rows;     ///< What each row shows.
  /// The pictures by row and column, of one size. An empty picture leaves its place white.
  std::vector<std::vector<ip2p::Image>> pictures;
};

/// Draws the table. \throws Error unless there is a picture for each row and column, and their sizes are the same
ip2p::Image draw(const Sheet& sheet);

}  // namespace example
