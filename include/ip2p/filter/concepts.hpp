#pragma once

/// \file
/// Contract of this folder: a filter decides whether a generated pair is worth keeping.
///
/// Skeleton for your own filter:
///
///     struct LongCaption {                                            // captions of at least `least` bytes
///       static constexpr auto cost = ip2p::FilterCost::words;
///       double least = 10;
///       ip2p::Verdict operator()(const ip2p::CandidatePair& pair) const {
///         return ip2p::at_least("caption length", static_cast<double>(pair.output.size()), least);
///       }
///     };
///     static_assert(ip2p::PairFilter<LongCaption>);      // then: ip2p::testing::check_filter(LongCaption{})

#include <concepts>
#include <string_view>

#include "ip2p/filter/candidate_pair.hpp"

namespace ip2p {

/// What a filter looks at, cheapest first. `AllOf` runs cheap filters before expensive ones.
enum class FilterCost {
  words,           ///< Only the captions.
  pixels,          ///< Also the pictures.
  image_features,  ///< Also the features of the pictures.
  all_features,    ///< Also the features of the captions.
};

/// A filter's decision.
struct Verdict {
  std::string_view reason = {};  ///< The test that rejected the pair, in static storage; empty if the pair is kept.
  double found = 0.0;            ///< The value that the test measured.
  double wanted = 0.0;           ///< The test's threshold.

  /// Whether no test rejected the pair.
  [[nodiscard]] bool kept() const { return reason.empty(); }
  friend bool operator==(const Verdict&, const Verdict&) = default;
};

/// Keeps the pair if `found` >= `wanted`; rejects it if not, or if `found` is NaN. \param test the reason if rejected
inline Verdict at_least(std::string_view test, double found, double wanted) {
  return found >= wanted ? Verdict{} : Verdict{test, found, wanted};
}

namespace detail {

template <class Filter>
concept HasVerdict = requires(const Filter& filter, const CandidatePair& pair) {
  { filter(pair) } -> std::same_as<Verdict>;
};

template <class Filter>
concept NamesFilterCost = requires {
  &Filter::cost;
};

template <class Filter>
concept HasFilterCost = requires {
  { Filter::cost } -> std::same_as<const FilterCost&>;
};

}  // namespace detail

/// Decides whether to keep a pair, and says why if not.
///
///     Verdict operator()(const CandidatePair& pair) const;
///     static constexpr FilterCost cost;                      // optional; without it: all_features
///
/// Laws (`ip2p::testing::check_filter`):
///  1. equal pairs get equal verdicts, regardless of earlier calls;
///  2. the filter does not use features beyond those that its cost allows;
///  3. a filter that uses features rejects a pair whose features are NaN.
template <class Filter>
concept PairFilter = std::copy_constructible<Filter> && detail::HasVerdict<Filter>;

/// Fails to compile, with a one-sentence message, unless `Filter` is a `PairFilter` and its cost, if any, is a
/// constant.
template <class Filter>
consteval void require_pair_filter() {
  static_assert(std::copy_constructible<Filter>,
                "ip2p: PairFilter must be copyable; see docs/reference/concepts.md#pairfilter");
  static_assert(detail::HasVerdict<Filter>,
                "ip2p: PairFilter needs `Verdict operator()(const CandidatePair&) const`; "
                "see docs/reference/concepts.md#pairfilter");
  if constexpr (detail::NamesFilterCost<Filter>) {
    static_assert(detail::HasFilterCost<Filter>,
                  "ip2p: PairFilter needs its cost as `static constexpr FilterCost cost`; "
                  "see docs/reference/concepts.md#pairfilter");
  }
}

namespace detail {

/// The cost that `Filter` declares, or else the highest.
template <class Filter>
consteval FilterCost filter_cost() {
  if constexpr (HasFilterCost<Filter>) {
    return Filter::cost;
  } else {
    return FilterCost::all_features;
  }
}

}  // namespace detail

}  // namespace ip2p
