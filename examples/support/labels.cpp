#include "labels.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#if __has_include(<stb_easy_font.h>)
#include <stb_easy_font.h>
#else
#include <stb/stb_easy_font.h>
#endif
#pragma GCC diagnostic pop

namespace example {
namespace {

constexpr std::int64_t gap = 8;       // between pictures, as `side_by_side`
constexpr std::int64_t leading = 12;  // of the font
constexpr std::int64_t margin = 3;    // around text, in its pixels

ip2p::Image white(std::int64_t width, std::int64_t height) {
  return {width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3), 255)};
}

void paste(ip2p::Image& onto, const ip2p::Image& picture, std::int64_t left, std::int64_t top) {
  for (std::int64_t y = 0; y < picture.height; ++y) {
    std::copy_n(picture.pixels.begin() + y * picture.width * 3, picture.width * 3,
                onto.pixels.begin() + ((top + y) * onto.width + left) * 3);
  }
}

/// What the font can show of UTF-8 text.
std::string ascii_of(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      shown += ' ';
    } else if (byte < 0x7f) {
      shown += c;
    } else if (byte >= 0xc0) {  // the first byte of a character
      shown += '?';
    }
  }
  return shown;
}

/// In pixels of the font.
std::int64_t width_of(std::string text) { return stb_easy_font_width(text.data()); }

/// How many times the font is enlarged for pictures of `width` pixels.
std::int64_t enlargement(std::int64_t width) { return std::clamp<std::int64_t>((width + 128) / 256, 1, 8); }

/// Lines of at most `width` pixels of the font, broken between words where that is possible.
std::vector<std::string> lines_of(const std::string& text, std::int64_t width) {
  std::vector<std::string> lines{""};
  std::size_t begin = 0;
  while (begin < text.size()) {
    const auto end = std::min(text.find(' ', begin), text.size());
    auto word = text.substr(begin, end - begin);
    begin = end + 1;
    auto& line = lines.back();
    if (width_of(line + (line.empty() ? "" : " ") + word) <= width) {
      line += (line.empty() ? "" : " ") + word;
      continue;
    }
    if (!line.empty()) lines.emplace_back();
    while (word.size() > 1 && width_of(word) > width) {
      std::size_t fits = word.size() - 1;
      while (fits > 1 && width_of(word.substr(0, fits)) > width) --fits;
      lines.back() = word.substr(0, fits);
      lines.emplace_back();
      word = word.substr(fits);
    }
    lines.back() = word;
  }
  return lines;
}

/// Draws one line. \param left, top in pixels of the picture
void draw_line(ip2p::Image& onto, std::string line, std::int64_t left, std::int64_t top, std::int64_t scale) {
  struct Vertex {
    float x, y, z;
    unsigned char colour[4];
  };
  std::vector<Vertex> corners(line.size() * 4 * 32);  // more strokes than any character has
  const auto strokes = stb_easy_font_print(0, 0, line.data(), nullptr, corners.data(),
                                           static_cast<int>(corners.size() * sizeof(Vertex)));
  for (int i = 0; i < strokes; ++i) {
    const auto& first = corners[static_cast<std::size_t>(i) * 4];
    const auto& last = corners[static_cast<std::size_t>(i) * 4 + 2];  // the opposite corner
    const auto place = [&](float corner, std::int64_t begin, std::int64_t most) {
      return std::clamp<std::int64_t>(begin + static_cast<std::int64_t>(corner) * scale, 0, most);
    };
    const auto right = place(last.x, left, onto.width), bottom = place(last.y, top, onto.height);
    for (auto y = place(first.y, top, onto.height); y < bottom; ++y) {
      for (auto x = place(first.x, left, onto.width); x < right; ++x) {
        std::memset(onto.pixels.data() + (y * onto.width + x) * 3, 32, 3);
      }
    }
  }
}

ip2p::Image strip(const std::string& text, std::int64_t width, std::int64_t scale) {
  const auto lines = lines_of(ascii_of(text), std::max<std::int64_t>(width / scale - 2 * margin, 1));
  auto image = white(width, (static_cast<std::int64_t>(lines.size()) * leading + 2 * margin) * scale);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    draw_line(image, lines[i], margin * scale, (margin + static_cast<std::int64_t>(i) * leading) * scale, scale);
  }
  return image;
}

}  // namespace

ip2p::Image text_strip(const std::string& text, std::int64_t width) { return strip(text, width, enlargement(width)); }

ip2p::Image labelled_row(std::span<const ip2p::Image> pictures, std::span<const std::string> labels) {
  ip2p::require(!pictures.empty() && pictures.size() == labels.size(),
                "labels: expected one for each of {} pictures, "
                "found {}",
                pictures.size(), labels.size());
  std::vector<ip2p::Image> strips;
  std::int64_t width = -gap, height = 0, over = 0;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    strips.push_back(text_strip(labels[i], pictures[i].width));
    width += gap + pictures[i].width;
    height = std::max(height, pictures[i].height);
    over = std::max(over, strips[i].height);
  }
  auto row = white(width, over + height);
  std::int64_t left = 0;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    paste(row, strips[i], left, over - strips[i].height);
    paste(row, pictures[i], left, over);
    left += pictures[i].width + gap;
  }
  return row;
}

ip2p::Image draw(const Sheet& sheet) {
  ip2p::require(!sheet.columns.empty() && sheet.pictures.size() == sheet.rows.size(),
                "sheet: expected pictures for {} rows, found {}", sheet.rows.size(), sheet.pictures.size());
  std::int64_t width = 0, height = 0;  // of a picture
  for (const auto& row : sheet.pictures) {
    ip2p::require(row.size() == sheet.columns.size(), "sheet: expected pictures for {} columns, found {}",
                  sheet.columns.size(), row.size());
    for (const auto& picture : row) {
      if (picture.pixels.empty()) continue;
      ip2p::require(width == 0 || (picture.width == width && picture.height == height),
                    "sheet: expected pictures of {}x{}, found {}x{}", width, height, picture.width, picture.height);
      width = picture.width;
      height = picture.height;
    }
  }
  const auto scale = enlargement(width);
  std::int64_t beside = 0;  // the labels of rows
  for (const auto& label : sheet.rows) {
    if (!label.empty()) beside = std::max(beside, (width_of(ascii_of(label)) + 2 * margin) * scale);
  }
  const auto columns = static_cast<std::int64_t>(sheet.columns.size());
  const auto rows = static_cast<std::int64_t>(sheet.rows.size());
  const auto whole = beside + columns * (width + gap) - gap;
  const auto title = strip(sheet.title, whole, scale);
  std::vector<ip2p::Image> heads;
  std::int64_t over = 0;
  for (const auto& label : sheet.columns) {
    heads.push_back(strip(label, width, scale));
    over = std::max(over, heads.back().height);
  }
  auto image = white(whole, title.height + over + rows * (height + gap) - gap);
  paste(image, title, 0, 0);
  for (std::size_t column = 0; column < heads.size(); ++column) {
    const auto left = beside + static_cast<std::int64_t>(column) * (width + gap);
    paste(image, heads[column], left, title.height + over - heads[column].height);
    for (std::size_t row = 0; row < sheet.rows.size(); ++row) {
      const auto top = title.height + over + static_cast<std::int64_t>(row) * (height + gap);
      const auto& picture = sheet.pictures[row][column];
      if (!picture.pixels.empty()) paste(image, picture, left, top);
      if (column == 0 && beside > 0) {
        draw_line(image, ascii_of(sheet.rows[row]), margin * scale, top + height / 2 - leading * scale / 2, scale);
      }
    }
  }
  return image;
}

}  // namespace example
