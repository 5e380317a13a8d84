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

#include "ip2p/evaluate/edit_set.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep.hpp"
#include "ip2p/evaluate/sweep_table.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
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

/// Height of the rows of a sheet, without the gap of 8 pixels between them.
inline constexpr std::int64_t sheet_row = 128;

/// A row for each kept edit and curve: the photograph, then the curve's pictures. \param kept of at least one edit
inline ip2p::Image picture_sheet(std::span<const ip2p::SweepPoint> points, const ip2p::KeptPictures& kept) {
  std::vector<ip2p::Image> rows;
  for (std::int64_t edit = 0; edit < kept.edits; ++edit) {
    const auto small = [](const std::filesystem::path& path) {
      const auto picture = ip2p::read_image(path);
      const auto width = std::max<std::int64_t>(1, picture.width * sheet_row / picture.height);
      return ip2p::resize(picture, width, sheet_row, ip2p::Filter::lanczos);
    };
    for (const auto& curve : curves_of(points)) {
      std::vector<ip2p::Image> row{small(kept.photograph(edit))};
      for (const auto& point : curve) row.push_back(small(kept.picture(edit, point)));
      rows.push_back(example::side_by_side(row));
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
      "text-align:left;border-bottom:1px solid #ddd}td.n{font-variant-numeric:tabular-nums}.sheet td{height:" +
      fmt::format("{}", sheet_row + 8) +
      "px;padding:0 1em 0 0;border:0;vertical-align:middle;font-size:12px;max-width:24em;overflow:hidden}"
      ".sheet td+td{padding:0;vertical-align:top;max-width:none}.sheet{border-spacing:0}</style></head><body>\n"
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
    page += "<h2>Pictures</h2>\n<table class=\"sheet\">\n";
    const auto curves = curves_of(points);
    for (std::size_t edit = 0; edit < report.shown.size(); ++edit) {
      for (std::size_t i = 0; i < curves.size(); ++i) {
        page += "<tr><td>";
        if (i == 0) {
          page += fmt::format("<b>{}</b><br>{}<br>", html_text(report.shown[edit].instruction),
                              html_text(report.shown[edit].output));
        }
        page += html_text(curves[i].front().curve) + ": photograph";
        for (const auto& point : curves[i]) page += ", " + (point.label.empty() ? "result" : html_text(point.label));
        page += "</td>";
        if (edit == 0 && i == 0) {
          page += fmt::format("<td rowspan=\"{}\"><img src=\"sheet.png\" alt=\"pictures\"></td>",
                              report.shown.size() * curves.size());
        }
        page += "</tr>\n";
      }
    }
    page += "</table>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace evaluate
