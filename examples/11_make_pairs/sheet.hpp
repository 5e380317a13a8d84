#pragma once

/// \file
/// Pages that show which pairs of a prompt were kept, and why.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ip2p/data/pair_set_writer.hpp"
#include "ip2p/filter/concepts.hpp"
#include "ip2p/filter/keep_best.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/language/triplets.hpp"
#include "support/pictures.hpp"

namespace make_pairs {

/// One pair on a page.
struct SheetPair {
  const ip2p::CandidatePair* pair;
  ip2p::PairNumbers numbers;
  ip2p::Verdict verdict;
  bool kept, measured;  ///< Whether CLIP looked at it.
};

inline std::string html_text(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

inline constexpr const char* sheet_head =
    "<!doctype html><meta charset=utf-8><style>body{font:14px sans-serif}figure{display:inline-block;margin:4px;"
    "padding:4px;background:#eee}figcaption{font-size:12px}.kept{background:#bfb}td{padding:2px 8px}</style>\n";

inline std::string counts_text(const ip2p::FilterCounts& counts) {
  auto text = fmt::format("{} of {} kept", counts.kept, counts.judged);
  for (const auto& [reason, count] : counts.rejected) text += fmt::format(", {} for {}", count, reason);
  if (counts.surplus > 0) text += fmt::format(", {} good but surplus", counts.surplus);
  return text;
}

/// Writes `{sheets}/{prompt}/index.html` with small pictures beside it. \param pairs in the order of the page
inline void write_sheet(const std::filesystem::path& sheets, const std::string& prompt, const ip2p::Triplet& triplet,
                        const ip2p::FilterCounts& counts, std::span<const SheetPair> pairs) {
  constexpr std::int64_t height = 160;
  const auto folder = sheets / prompt;
  ip2p::make_folder(folder);
  auto page = fmt::format("{}<p><b>{}</b>: {}<br>&rarr; {}<br>edit: {}<p>{}<p>\n", sheet_head, prompt,
                          html_text(triplet.caption), html_text(triplet.edited), html_text(triplet.instruction),
                          counts_text(counts));
  for (const auto& [pair, n, verdict, kept, measured] : pairs) {
    std::vector<ip2p::Image> both;
    for (const auto* picture : {&pair->before, &pair->after}) {
      both.push_back(ip2p::resize(*picture, std::max<std::int64_t>(1, picture->width * height / picture->height),
                                  height, ip2p::Filter::bicubic));
    }
    const auto file = fmt::format("{}.jpg", n.seed);
    ip2p::write_image(folder / file, example::side_by_side(both), 80);
    const auto why = kept             ? std::string("kept")
                     : verdict.kept() ? std::string("good, but others were better")
                                      : fmt::format("dropped: {} {:.3f}, wanted {:.3f}", verdict.reason, verdict.found,
                                                    verdict.wanted);
    page += fmt::format(
        "<figure{}><img src=\"{}\"><figcaption>{}<br>{}shared {:.2f} of the steps, text scale {:.1f}, seed {}"
        "</figcaption></figure>\n",
        kept ? " class=kept" : "", file, why,
        measured ? fmt::format("direction {:.3f}, image {:.3f}, captions {:.3f} and {:.3f}<br>", n.direction, n.image,
                               n.caption_before, n.caption_after)
                 : "",
        n.share, n.text_scale, n.seed);
  }
  ip2p::write_file_atomically(folder / "index.html", std::as_bytes(std::span(page)));
}

/// Writes `{sheets}/index.html`, which leads to the pages of prompts.
inline void write_sheet_index(const std::filesystem::path& sheets, std::span<const ip2p::Triplet> triplets,
                              const std::map<std::int64_t, ip2p::FilterCounts>& counts) {
  std::string page = std::string(sheet_head) + "<table>\n";
  for (const auto& [prompt, count] : counts) {
    const auto name = ip2p::prompt_folder(prompt);
    if (!std::filesystem::exists(sheets / name / "index.html")) continue;
    const auto& triplet = triplets[static_cast<std::size_t>(prompt)];
    page += fmt::format("<tr><td><a href=\"{0}/index.html\">{0}</a><td>{1}<td>{2}<td>{3}\n", name,
                        html_text(triplet.caption), html_text(triplet.edited), counts_text(count));
  }
  page += "</table>\n";
  ip2p::write_file_atomically(sheets / "index.html", std::as_bytes(std::span(page)));
}

}  // namespace make_pairs
