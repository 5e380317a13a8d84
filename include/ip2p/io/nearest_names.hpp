#pragma once

/// \file
/// "Did you mean ...": the names closest to one that was not found.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// The number of insertions, deletions, substitutions and swaps of neighbours that turn the bytes of `a` into those of
/// `b`, where no byte is changed twice (Damerau 1964; "optimal string alignment").
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  // The rows of the table for all of `a` up to a byte, and up to the one before and the two before.
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::swap(before, last);
    std::swap(last, row);
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      row[j + 1] = std::min({last[j] + (a[i] == b[j] ? 0 : 1), row[j] + 1, last[j + 1] + 1});
      if (i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j]) row[j + 1] = std::min(row[j + 1], before[j - 1] + 1);
    }
  }
  return row[b.size()];
}

/// Up to `count` names closest to `wanted`, closest first. Only the first 5000 names and 256 bytes of each are
/// compared, so that a malicious file cannot make an error message slow.
inline std::vector<std::string> nearest_names(std::string_view wanted, std::span<const std::string> names,
                                              std::size_t count = 3) {
  std::vector<std::pair<std::size_t, const std::string*>> ranked;
  for (const auto& name : names.first(std::min<std::size_t>(names.size(), 5000))) {
    ranked.emplace_back(edit_distance(wanted.substr(0, 256), std::string_view(name).substr(0, 256)), &name);
  }
  count = std::min(count, ranked.size());
  std::partial_sort(
      ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(count), ranked.end(),
      [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : *a.second < *b.second; });
  std::vector<std::string> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(printable(*ranked[i].second));
  return result;
}

/// "; nearest: 'a', 'b'", or "; there are none" if `names` is empty.
inline std::string nearest_names_clause(std::string_view wanted, std::span<const std::string> names,
                                        std::size_t count = 3) {
  const auto nearest = nearest_names(wanted, names, count);
  if (nearest.empty()) return "; there are none";
  return fmt::format("; nearest: '{}'", fmt::join(nearest, "', '"));
}

}  // namespace ip2p::detail
