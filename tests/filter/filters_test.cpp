#include <ATen/ops/tensor.h>

#include <cmath>
#include <string>
#include <vector>

#include "ip2p/filter/all_of.hpp"
#include "ip2p/filter/keep_all.hpp"
#include "ip2p/filter/keep_best.hpp"
#include "ip2p/filter/pixel_change.hpp"
#include "ip2p/testing/check_filter.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;
using testing::check_filter;
using testing::FeatureReads;
using testing::made_pair;

/// Unit rows at these angles in a plane, so that every cosine is known.
at::Tensor at_angles(double before, double after) {
  return at::tensor({std::cos(before), std::sin(before), std::cos(after), std::sin(after)}, at::kDouble).view({2, 2});
}

/// A pair whose pictures are `apart` radians from each other, its captions too, and `off` from their pictures.
CandidatePair pair_at(double apart, double off, const std::shared_ptr<FeatureReads>& reads = nullptr) {
  return made_pair(1, at_angles(0, apart), at_angles(off, apart + off),
                   reads ? reads : std::make_shared<FeatureReads>());
}

struct Words {
  static constexpr auto cost = FilterCost::words;
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("word length", static_cast<double>(pair.output.size()), 1000.0);
  }
};

}  // namespace

TEST_CASE("The shipped filters keep the laws", "[filter]") {
  check_filter(KeepAll{});
  check_filter(PixelChange{});
  check_filter(ImageSimilarity{});
  check_filter(CaptionSimilarity{});
  check_filter(DirectionalSimilarity{});
  check_filter(AllOf());
  check_filter(paper_filter());
  check_filter(released_filter());
  check_filter(AllOf(DirectionalSimilarity{-0.5}, PixelChange{}, AllOf(ImageSimilarity{0.1})));
}

TEST_CASE("PairFeatures computes the four cosines of the published metadata", "[filter]") {
  const auto pair = pair_at(0.6, 0.25);
  CHECK(pair.features.images() == Approx(std::cos(0.6)));
  CHECK(pair.features.captions()[0] == Approx(std::cos(0.25)));
  CHECK(pair.features.captions()[1] == Approx(std::cos(0.25)));
  // Both directions are chords of equal arcs, turned by the same angle.
  CHECK(pair.features.direction() == Approx(std::cos(0.25)));
  CHECK(pair_at(0.0, 0.3).features.direction() == 0.0);
}

TEST_CASE("Filters keep what reaches the threshold and reject what is below it, saying what was found", "[filter]") {
  const auto pair = pair_at(0.6, 0.25);
  CHECK(ImageSimilarity{std::cos(0.6) - 1e-9}(pair).kept());
  const auto verdict = ImageSimilarity{0.9}(pair);
  CHECK(verdict.reason == "image similarity");
  CHECK(verdict.found == Approx(std::cos(0.6)));
  CHECK(verdict.wanted == 0.9);
  CHECK(at_least("x", 0.2, 0.2).kept());
  CHECK_FALSE(at_least("x", NAN, 0.2).kept());
  const auto before = made_pair(1, at_angles(0, 0.1), at_angles(1.5, 0.1));
  CHECK(CaptionSimilarity{}(before).reason == "caption similarity before");
  const auto after = made_pair(1, at_angles(0, 0.1), at_angles(0, 1.6));
  CHECK(CaptionSimilarity{}(after).reason == "caption similarity after");
  CHECK(DirectionalSimilarity{}(made_pair(1, at_angles(0, 0.4), at_angles(0.4, 0))).reason == "directional similarity");
}

TEST_CASE("The published thresholds: .75 in the paper, .7 in the released code", "[filter]") {
  const auto between = pair_at(std::acos(0.72), 0.0);
  CHECK(released_filter()(between).kept());
  CHECK(paper_filter()(between).reason == "image similarity");
  CHECK(paper_filter()(pair_at(std::acos(0.76), 0.0)).kept());
  CHECK(paper_filter()(pair_at(0.1, std::acos(0.19))).reason == "caption similarity before");
  CHECK(paper_filter()(pair_at(0.1, std::acos(0.21))).kept());
  // Each picture matches its caption well enough, but the pictures changed in the opposite direction.
  CHECK(paper_filter()(made_pair(1, at_angles(0, 0.2), at_angles(0.2, 0))).reason == "directional similarity");
}

TEST_CASE("AllOf asks cheap filters first, whatever their order, and computes no feature needlessly", "[filter]") {
  const auto reads = std::make_shared<FeatureReads>();
  const auto pair = pair_at(0.1, 0.1, reads);
  CHECK(AllOf(DirectionalSimilarity{2.0}, ImageSimilarity{2.0}, PixelChange{256.0}, Words{})(pair).reason ==
        "word length");
  CHECK(AllOf(DirectionalSimilarity{2.0}, PixelChange{256.0}, ImageSimilarity{2.0})(pair).reason == "pixel change");
  CHECK(reads->pictures == 0);
  CHECK(AllOf(DirectionalSimilarity{2.0}, ImageSimilarity{2.0}, PixelChange{})(pair).reason == "image similarity");
  CHECK(reads->pictures == 1);
  CHECK(reads->captions == 0);
  CHECK(AllOf(DirectionalSimilarity{2.0}, CaptionSimilarity{2.0})(pair).reason == "directional similarity");
  CHECK(reads->pictures == 1);
  CHECK(reads->captions == 1);
  CHECK(AllOf()(pair).kept());
  STATIC_REQUIRE(AllOf<>::cost == FilterCost::words);
  STATIC_REQUIRE(AllOf<PixelChange, ImageSimilarity>::cost == FilterCost::image_features);
}

TEST_CASE("PixelChange rejects pairs that are nearly the same, and refuses two sizes", "[filter]") {
  auto pair = pair_at(0.1, 0.1);
  pair.after = pair.before;
  CHECK(PixelChange{}(pair).reason == "pixel change");
  pair.after.pixels[0] ^= 64;  // one of 90 values, by 64 levels: 0.71 on average
  CHECK(PixelChange{.least = 0.7}(pair).kept());
  CHECK_FALSE(PixelChange{.least = 0.72}(pair).kept());
  pair.after = Image{5, 6, std::vector<std::uint8_t>(90)};
  CHECK_THROWS_WITH(PixelChange{}(pair), Contains("expected pictures of one size, found 6x5 and 5x6"));
}

TEST_CASE("keep_best keeps the best directions and counts every rejection by reason", "[filter]") {
  std::vector<CandidatePair> pairs;
  for (const double off : {0.5, 0.1, 0.4, 0.3, 0.2, 0.1}) pairs.push_back(pair_at(0.3, off));
  pairs.push_back(pair_at(1.5, 0.0));
  pairs.push_back(pair_at(0.1, 1.5));
  pairs.push_back(pair_at(1.5, 1.5));
  const auto selection = keep_best(pairs, paper_filter());
  CHECK(selection.kept == std::vector<std::size_t>{1, 5, 4, 3});
  CHECK(selection.counts == FilterCounts{9, 4, 2, {{"caption similarity before", 1}, {"image similarity", 2}}});

  FilterCounts sum = selection.counts;
  sum += keep_best(std::span(pairs).subspan(7), AllOf(DirectionalSimilarity{}), 1).counts;
  CHECK(sum ==
        FilterCounts{
            11, 4, 2, {{"caption similarity before", 1}, {"directional similarity", 2}, {"image similarity", 2}}});
  CHECK(keep_best(std::span<const CandidatePair>(), KeepAll{}).kept.empty());

  const std::vector<CandidatePair> odd{pair_at(0.3, NAN), pair_at(0.3, 3.0), pair_at(0.3, NAN), pair_at(0.3, 0.1)};
  CHECK(keep_best(odd, KeepAll{}).kept == std::vector<std::size_t>{3, 1, 0, 2});

  // Of equal directions the first wins, or the one with the largest seed.
  const std::vector<CandidatePair> equal{pair_at(0.3, 0.2), pair_at(0.3, 0.1), pair_at(0.3, 0.2), pair_at(0.3, 0.2)};
  const std::vector<std::uint64_t> seeds{7, 1, 4294967295U, 30};
  CHECK(keep_best(equal, KeepAll{}, 3).kept == std::vector<std::size_t>{1, 0, 2});
  CHECK(keep_best(equal, KeepAll{}, 3, seeds).kept == std::vector<std::size_t>{1, 2, 3});
  CHECK_THROWS_WITH(keep_best(odd, KeepAll{}, 3, std::span(seeds).first(3)),
                    Contains("expected a seed for each of 4 pairs, found 3"));
}

namespace {

/// Features: the mean colour, and two numbers for each text. Counts its calls.
struct ColourEmbedder {
  mutable int pictures = 0, texts = 0;
  at::Tensor image_features(std::span<const Image> images) const {
    ++pictures;
    std::vector<double> rows;
    for (const auto& image : images) {
      double red = 0.0;
      for (std::size_t i = 0; i < image.pixels.size(); i += 3) red += image.pixels[i];
      rows.insert(rows.end(), {red + 1.0, 255.0});
    }
    const auto x = at::tensor(rows, at::kDouble).view({-1, 2});
    return x / x.norm(2, {1}, true);
  }
  at::Tensor text_features(std::span<const std::string> words) const {
    ++texts;
    std::vector<double> rows;
    for (const auto& word : words) rows.insert(rows.end(), {static_cast<double>(word.size()), 1.0});
    const auto x = at::tensor(rows, at::kDouble).view({-1, 2});
    return x / x.norm(2, {1}, true);
  }
};

}  // namespace

TEST_CASE("candidate_pairs computes features when asked, those of the captions once per prompt", "[filter]") {
  const ColourEmbedder embedder;
  std::vector<Image> pictures;
  for (std::uint8_t level = 0; level < 6; ++level) pictures.push_back({2, 2, std::vector<std::uint8_t>(12, level)});
  const auto pairs = candidate_pairs(embedder, pictures, "a", "a red house");
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[1].before == pictures[2]);
  CHECK(pairs[1].after == pictures[3]);
  CHECK(pairs[2].output == "a red house");
  CHECK(embedder.pictures + embedder.texts == 0);
  const ColourEmbedder direct;
  const auto texts = direct.text_features(std::vector<std::string>{"a", "a red house"});
  for (const auto& pair : pairs) {
    const auto both = direct.image_features(std::vector<Image>{pair.before, pair.after});
    const auto wanted = directional_similarity(both.narrow(0, 0, 1), both.narrow(0, 1, 1), texts.narrow(0, 0, 1),
                                               texts.narrow(0, 1, 1));
    CHECK(pair.features.direction() == wanted.item<double>());
  }
  CHECK(pairs[0].features.images() < 1.0);
  CHECK(embedder.pictures == 3);
  CHECK(embedder.texts == 1);
  pictures.pop_back();
  CHECK_THROWS_WITH(candidate_pairs(embedder, pictures, "a", "b"),
                    Contains("expected pictures before and after in turn, found 5 pictures"));
}

TEST_CASE("Features of other shapes are refused", "[filter]") {
  const PairFeatures features(LazyFeatures([] {
                                return at::tensor({1.0, 2.0});
                              }),
                              LazyFeatures([] { return at::Tensor(); }));
  CHECK_THROWS_WITH(features.images(), Contains("expected [2, D], found [2]"));
  CHECK_THROWS_WITH(
      PairFeatures(LazyFeatures([] { return at_angles(0, 1); }), LazyFeatures([] { return at::Tensor(); })).captions(),
      Contains("expected [2, D], found no tensor"));
  CHECK_THROWS_WITH(feature_similarity(at_angles(0, 1), at_angles(0, 1).narrow(0, 0, 1)),
                    Contains("expected two of one shape [B, D], found [2, 2] and [1, 2]"));
  CHECK_THROWS_WITH(
      directional_similarity(at_angles(0, 1), at_angles(0, 1).narrow(0, 0, 1), at_angles(0, 1), at_angles(0, 1)),
      Contains("expected features of one shape before and after, found [2, 2] and [1, 2]"));
}
