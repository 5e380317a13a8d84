#pragma once

/// \file
/// The output of an evaluation: a sheet of pictures, and a page with figures, table and sheet.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ip2p/evaluate/edit_set.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/evaluate/sweep_table.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "support/labels.hpp"
#include "support/pictures.hpp"

namespace evaluate {

/// The points of each curve, in their order.
inline std::vector<std::span<const ip2p::SweepPoint>> curves_of(std::span<const ip2p::SweepPoint> points) {
  std::vector<std::span<const ip2p::SweepPoint>> curves;
  for (std::size_t begin = 0; begin < points.size();) {
    auto end = begin;
    while (end < points.size() && points[end].curve == points[begin].curve) ++end;
    curves.push_back(points.subspan(begin, end - begin));
    begin = end;
  }
  return curves;
}

/// Height of the pictures on a sheet.
inline constexpr std::int64_t sheet_row = 128;

/// What made a picture: the curve, and each of its settings that a reader of the sheet compares.
inline std::string picture_label(const ip2p::SweepPoint& point) {
  std::vector<std::string> parts;
  bool has_value = point.label.empty();  // that of the curve, which may be of another setting
  for (const auto& [name, value] : point.settings.values()) {
    std::string words(name);
    std::ranges::replace(words, '-', ' ');
    if (words == "steps") {
      parts.push_back(fmt::format("{} step{}", value, value == "1" ? "" : "s"));
    } else if (words.ends_with("scale") || words == "strength" || words == "fraction") {
      parts.push_back(fmt::format("{} {}", words, value));
    } else {
      continue;
    }
    has_value = has_value || value == point.label;
  }
  if (!has_value) parts.push_back(point.label);
  return fmt::format("{}{}{}", point.curve, parts.empty() ? "" : ": ", fmt::join(parts, ", "));
}

/// A row for each kept edit and curve: the photograph, then the curve's pictures, all under what they are.
/// \param kept of at least one edit  \param words of these edits  \param seed of the first of them
inline ip2p::Image picture_sheet(std::span<const ip2p::SweepPoint> points, const ip2p::KeptPictures& kept,
                                 std::span<const ip2p::PairWords> words, std::uint64_t seed) {
  std::vector<ip2p::Image> rows;
  for (std::int64_t edit = 0; edit < kept.edits; ++edit) {
    const auto small = [](const std::filesystem::path& path) {
      const auto picture = ip2p::read_image(path);
      const auto width = std::max<std::int64_t>(1, picture.width * sheet_row / picture.height);
      return ip2p::resize(picture, width, sheet_row, ip2p::Filter::lanczos);
    };
    const auto number = static_cast<std::size_t>(edit);
    const auto title = fmt::format("\"{}\", seed {}", words[number].instruction, seed + number);
    for (const auto& curve : curves_of(points)) {
      std::vector<ip2p::Image> row{small(kept.photograph(edit))};
      std::vector<std::string> labels{title};
      for (const auto& point : curve) {
        row.push_back(small(kept.picture(edit, point)));
        labels.push_back(picture_label(point));
      }
      rows.push_back(example::labelled_row(row, labels));
    }
  }
  std::int64_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.width);
  for (auto& row : rows) {  // white to the right of the shorter ones
    auto whole = ip2p::Image{width, row.height,
                             std::vector<std::uint8_t>(static_cast<std::size_t>(width * row.height * 3), 255)};
    for (std::int64_t y = 0; y < row.height; ++y) {
      std::copy_n(row.pixels.begin() + y * row.width * 3, row.width * 3, whole.pixels.begin() + y * width * 3);
    }
    row = std::move(whole);
  }
  return example::stacked(rows);
}

inline std::string html_text(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

/// The contents of a page besides its rows.
struct Report {
  std::string summary;                 ///< One sentence on photographs and measures.
  std::vector<std::string> clips;      ///< Names of the measures, in their order.
  std::vector<std::string> figures;    ///< Files beside the page, one a CLIP; empty where none could be drawn.
  std::vector<ip2p::PairWords> shown;  ///< Words of the edits on sheet.png.
};

inline std::string report_page(std::span<const ip2p::SweepRow> rows, std::span<const ip2p::SweepPoint> points,
                               const Report& report) {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comparison of editors</title>\n<style>"
      "body{font-family:sans-serif;margin:2em;max-width:100em}table{border-collapse:collapse}td,th{padding:.2em .6em;"
      "text-align:left;border-bottom:1px solid #ddd}td.n{font-variant-numeric:tabular-nums}</style></head><body>\n"
      "<h1>Comparison of editors</h1>\n<p>" +
      html_text(report.summary) + "</p>\n";
  for (const auto& figure : report.figures) page += fmt::format("<p><img src=\"{}\" alt=\"curves\"></p>\n", figure);
  page += "<h2>Points</h2>\n<table><tr><th>curve</th><th>value</th>";
  for (const auto& clip : report.clips) {
    for (const char* name : {"direction", "image", "edited caption"}) {
      page += fmt::format("<th>{}: {}</th>", html_text(clip), name);
    }
  }
  page += "<th>SSIM</th><th>settings</th></tr>\n";
  for (const auto& row : rows) {
    page += fmt::format("<tr><td>{}</td><td>{}</td>", html_text(row.point.curve), html_text(row.point.label));
    const auto cell = [&](const std::string& score) {
      const auto& value = row.scores.at(score);
      page += fmt::format("<td class=\"n\">{:.4f} [{:.4f}, {:.4f}]</td>", value.mean, value.low, value.high);
    };
    for (const auto& clip : report.clips) {
      for (const char* name : {"/direction", "/image", "/text_after"}) cell(clip + name);
    }
    cell("ssim");
    page += fmt::format("<td>{}</td></tr>\n", html_text(row.point.key()));
  }
  page += "</table>\n";
  if (!report.shown.empty()) {
    page += "<h2>Pictures</h2>\n<ol>\n";
    for (const auto& words : report.shown) {
      page += fmt::format("<li><b>{}</b>: {}</li>\n", html_text(words.instruction), html_text(words.output));
    }
    page += "</ol>\n<p><img src=\"sheet.png\" alt=\"pictures\"></p>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace evaluate
