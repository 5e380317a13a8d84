#pragma once

/// \file
/// Contract of the folder: a filter says whether a generated pair is worth keeping.
///
/// Skeleton to copy for a filter of one's own:
///
///     struct LongCaption {                                            // captions of at least so many bytes
///       static constexpr auto cost = ip2p::FilterCost::words;
///       std::size_t least = 10;
///       ip2p::Verdict operator()(const ip2p::CandidatePair& pair) const {
///         return ip2p::at_least("caption length", static_cast<double>(pair.output.size()),
///         static_cast<double>(least));
///       }
///     };
///     static_assert(ip2p::PairFilter<LongCaption>);                   // then:
///     ip2p::testing::check_filter(LongCaption{})

#include <concepts>
#include <string_view>

#include "ip2p/filter/candidate_pair.hpp"

namespace ip2p {

/// What a filter looks at. `AllOf` asks the cheap ones first.
enum class FilterCost {
  words,           ///< Captions alone.
  pixels,          ///< Pictures too.
  image_features,  ///< Features of the pictures too.
  all_features,    ///< Features of the captions too.
};

/// A filter's answer.
struct Verdict {
  std::string_view reason = {};  ///< The test that rejects, in words of static storage; empty where the pair is kept.
  double found = 0.0;            ///< What that test measured,
  double wanted = 0.0;           ///< and its threshold.

  /// Whether no test rejected the pair.
  [[nodiscard]] bool kept() const { return reason.empty(); }
  friend bool operator==(const Verdict&, const Verdict&) = default;
};

/// Kept where `found` >= `wanted`; not for a number that is none. \param test names the reason of a rejection
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

/// Keeps a pair or tells why not.
///
///     Verdict operator()(const CandidatePair& pair) const;
///     static constexpr FilterCost cost;                      // optional; without it: all_features
///
/// Laws (`ip2p::testing::check_filter`):
///  1. equal pairs get equal verdicts, whatever was judged before;
///  2. the filter looks at no features that its cost does not name;
///  3. a filter that looks at features rejects those that are not numbers.
template <class Filter>
concept PairFilter = std::copy_constructible<Filter> && detail::HasVerdict<Filter>;

/// Stops compilation with one sentence unless `Filter` is a `PairFilter` (and its cost, if any, is a constant).
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

/// The cost that `Filter` names, or the dearest.
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
