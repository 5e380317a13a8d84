#include "ip2p/testing/check_filter.hpp"

#include <algorithm>
#include <memory>
#include <string>

#include "ip2p/filter/all_of.hpp"
#include "ip2p/filter/image_similarity.hpp"
#include "ip2p/filter/keep_best.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law.

namespace {

using namespace ip2p;
using testing::check_filter;

template <FilterCost Cost>
struct Stated : ImageSimilarity {
  static constexpr auto cost = Cost;
};

struct ReadsCaptions {
  static constexpr auto cost = FilterCost::image_features;
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("captions", pair.features.captions()[0] + pair.features.images(), 0.2);
  }
};

struct Forgetful {  // every other verdict is different
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("image similarity", pair.features.images() + (++*calls % 2 == 0 ? 0.0 : 2.0), 1.5);
  }
};

struct Relative {  // keeps what is better than everything before
  std::shared_ptr<double> best = std::make_shared<double>(-2.0);
  Verdict operator()(const CandidatePair& pair) const {
    const double found = pair.features.images();
    const auto verdict = at_least("better than before", found, *best);
    *best = std::max(*best, found);
    return verdict;
  }
};

struct KeepsNan {
  double least = 0.5;
  Verdict operator()(const CandidatePair& pair) const {
    const double found = pair.features.images();
    return found < least ? Verdict{"image similarity", found, least} : Verdict{};
  }
};

struct Sound {  // does not declare its cost
  Verdict operator()(const CandidatePair& pair) const { return at_least("x", pair.features.direction(), 0.3); }
};

template <class Filter>
void broken(const Filter& filter, const std::string& law) {
  REQUIRE_THROWS_WITH(check_filter(filter), Contains("PairFilter breaks the law \"" + law));
}

}  // namespace

TEST_CASE("check_filter accepts a user's sound filter", "[testing]") {
  check_filter(Sound{});
  check_filter(Stated<FilterCost::image_features>{});
  check_filter(Stated<FilterCost::all_features>{});
}

TEST_CASE("The library's templates ask filters for no more than the concept promises", "[testing]") {
  check_filter(testing::FilterArchetype(0));
  check_filter(AllOf(testing::FilterArchetype(0), AllOf(testing::FilterArchetype(0))));
  CHECK(keep_best(std::span<const CandidatePair>(), testing::FilterArchetype(0)).kept.empty());
}

TEST_CASE("check_filter names the broken law", "[testing]") {
  broken(Stated<FilterCost::words>{}, "features are looked at only where the cost says so");
  broken(Stated<FilterCost::pixels>{}, "features are looked at only where the cost says so");
  broken(ReadsCaptions{}, "features are looked at only where the cost says so");
  broken(Forgetful{}, "equal pairs get equal verdicts");
  broken(Relative{}, "equal pairs get equal verdicts");
  broken(KeepsNan{}, "features that are not numbers are rejected");
}
