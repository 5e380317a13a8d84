#pragma once

/// \file
/// Filters one after the other, the cheap ones first; and the two combinations that were published.

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

/// Keeps what all of `Filters` keep; `AllOf<>` keeps everything. They are asked in the order of their costs, equal ones
/// in the order of the list, up to the first that rejects, whose verdict is the answer. So what is kept does not depend
/// on the order of the list, and features are computed only for pairs that passed what needs none.
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
  /// Places in the list, by cost.
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

/// The filter of the paper: image similarity .75, caption similarity .2 of both, directional similarity .2.
inline auto paper_filter() { return AllOf(ImageSimilarity{}, CaptionSimilarity{}, DirectionalSimilarity{}); }

/// The filter of the released code, whose image similarity is .7.
inline auto released_filter() {
  return AllOf(ImageSimilarity{.least = 0.7}, CaptionSimilarity{}, DirectionalSimilarity{});
}

}  // namespace ip2p
