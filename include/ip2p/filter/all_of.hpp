#pragma once

/// \file
/// Combines filters, cheapest first; and the two published combinations.

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include "ip2p/filter/caption_similarity.hpp"
#include "ip2p/filter/concepts.hpp"
#include "ip2p/filter/directional_similarity.hpp"
#include "ip2p/filter/image_similarity.hpp"

namespace ip2p {

/// Keeps pairs that all of `Filters` keep; `AllOf<>` keeps everything. Filters run in order of cost (ties in the order
/// given) until one rejects the pair; its verdict is the result. So which pairs are kept does not depend on the order
/// given, and features are computed only for pairs that pass all filters without features.
template <class... Filters>
class AllOf {
  static constexpr std::array<FilterCost, sizeof...(Filters)> costs{detail::filter_cost<Filters>()...};

 public:
  /// That of the most expensive of them.
  static constexpr FilterCost cost = [] {
    auto most = FilterCost::words;
    for (const auto each : costs) most = std::max(most, each);
    return most;
  }();

  /// Takes the filters by value.
  explicit constexpr AllOf(Filters... filters) : filters_(std::move(filters)...) {
    (require_pair_filter<Filters>(), ...);
  }

  /// The verdict of the first that rejects, in the order of costs; kept where none does.
  Verdict operator()(const CandidatePair& pair) const {
    return judge(pair, std::make_index_sequence<sizeof...(Filters)>());
  }

 private:
  /// Indices into the list, sorted by cost.
  static constexpr std::array<std::size_t, sizeof...(Filters)> order = [] {
    std::array<std::size_t, sizeof...(Filters)> places{};
    std::size_t next = 0;
    for (const auto level :
         {FilterCost::words, FilterCost::pixels, FilterCost::image_features, FilterCost::all_features}) {
      for (std::size_t i = 0; i < costs.size(); ++i) {
        if (costs[i] == level) places[next++] = i;
      }
    }
    return places;
  }();

  template <std::size_t... K>
  Verdict judge(const CandidatePair& pair, std::index_sequence<K...> /*unused*/) const {
    Verdict verdict;
    static_cast<void>(((verdict = std::get<order[K]>(filters_)(pair)).kept() && ...));
    return verdict;
  }

  std::tuple<Filters...> filters_;
};
static_assert(PairFilter<AllOf<>> && PairFilter<AllOf<ImageSimilarity, CaptionSimilarity>>);

/// The paper's filter: image similarity .75, caption similarity .2 for both pictures, directional similarity .2.
inline auto paper_filter() { return AllOf(ImageSimilarity{}, CaptionSimilarity{}, DirectionalSimilarity{}); }

/// The released code's filter: the same, but with an image similarity of .7.
inline auto released_filter() {
  return AllOf(ImageSimilarity{.least = 0.7}, CaptionSimilarity{}, DirectionalSimilarity{});
}

}  // namespace ip2p
