#include "ip2p/pipeline/pair_generator.hpp"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const RunSettings quick_pairs{.steps = 6, .resolution = 64};
const std::string before = "a red balloon";
const std::string after = "a blue balloon at night";

}  // namespace

TEST_CASE("A pair depends only on its sample, whatever its neighbours", "[pipeline]") {
  auto pipeline = tiny_text_to_image();
  PairGenerator generate(pipeline, quick_pairs);
  const auto samples = pair_samples(1, 7, 0, 3);
  const auto all = generate.latents(before, after, samples);
  CHECK(all.size(0) == 6);
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto alone = generate.latents(before, after, {&samples[static_cast<std::size_t>(i)], 1});
    CHECK(max_difference(alone, all.narrow(0, 2 * i, 2)) < 2e-4 * deviation(all));
  }
  CHECK(generate(before, after, {samples.data(), 1}).size() == 2);
  CHECK_THROWS_WITH(generate.latents(before, after, {}), Contains("expected at least one sample"));
}

TEST_CASE("Equal captions give equal images, and sharing attention keeps images of a pair together", "[pipeline]") {
  auto pipeline = tiny_text_to_image();
  PairGenerator generate(pipeline, quick_pairs);
  const auto apart = [&](const std::string& edited, double share) {
    const PairSample sample{.seed = 11, .share = share, .text_scale = 4.0};
    const auto pair = generate.latents(before, edited, {&sample, 1});
    return max_difference(pair.narrow(0, 0, 1), pair.narrow(0, 1, 1));
  };
  // With one caption and shared noise, there is nothing that distinguishes the images of the pair.
  CHECK(apart(before, 0.0) < 1e-4);
  CHECK(apart(after, 0.0) > 0.1);
  // Sharing changes the second image; the first is as it would be alone.
  const PairSample free{.seed = 11, .share = 0.0, .text_scale = 4.0};
  const PairSample tied{.seed = 11, .share = 0.9, .text_scale = 4.0};
  const auto a = generate.latents(before, after, {&free, 1});
  const auto b = generate.latents(before, after, {&tied, 1});
  CHECK(max_difference(a.narrow(0, 0, 1), b.narrow(0, 0, 1)) < 2e-4 * deviation(a));
  CHECK(max_difference(a.narrow(0, 1, 1), b.narrow(0, 1, 1)) > 1e-2 * deviation(a));
}

TEST_CASE("The images of a pair are those of text to image with shared noise", "[pipeline]") {
  auto pipeline = tiny_text_to_image();
  pipeline.guidance = {.text_scale = 6.0};
  PairGenerator generate(pipeline, quick_pairs);
  const PairSample sample{.seed = 3, .share = 0.0, .text_scale = 6.0};
  const auto pair = generate.latents(before, after, {&sample, 1});
  const std::vector<std::string> prompts{before, after};
  SharedNoise noise(CounterNoise(std::vector<std::uint64_t>{3}), 2);
  const auto alone = pipeline.sample(prompts, quick_pairs, noise);
  CHECK(max_difference(pair, alone) < 2e-4 * deviation(alone));
}

TEST_CASE("Pair samples depend only on seed, prompt and number, and stay in their ranges", "[pipeline]") {
  const auto ten = pair_samples(5, 2, 0, 10);
  const auto tail = pair_samples(5, 2, 6, 4);
  CHECK(std::equal(tail.begin(), tail.end(), ten.begin() + 6));
  CHECK_FALSE(pair_samples(5, 3, 0, 1).front() == ten.front());
  CHECK_FALSE(pair_samples(6, 2, 0, 1).front() == ten.front());
  double shares = 0.0;
  for (const auto& sample : pair_samples(5, 2, 0, 400)) {
    CHECK((sample.share >= 0.1 && sample.share < 0.9));
    CHECK((sample.text_scale >= 7.5 && sample.text_scale < 15.0));
    CHECK(sample.seed < (std::uint64_t{1} << 32));
    shares += sample.share / 400;
  }
  CHECK(shares == Approx(0.5).margin(0.05));  // four standard errors of the mean of 400 uniforms
}

TEST_CASE("Samples of a prompt have distinct seeds, drawn again if two coincide", "[pipeline]") {
  constexpr std::int64_t count = 200000;  // of 2^32 seeds: about five coincide
  const auto samples = pair_samples(5, 2, 0, count);
  REQUIRE(samples.size() == count);
  std::set<std::uint64_t> known;
  std::int64_t last = -1;  // sample that drew again
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& sample = samples[static_cast<std::size_t>(i)];
    SampleRandom random(5, 2, static_cast<std::uint64_t>(i));
    auto seed = static_cast<std::uint64_t>(random.below(std::int64_t{1} << 32));
    if (known.contains(seed)) {
      last = i;
      seed = static_cast<std::uint64_t>(random.below(std::int64_t{1} << 32));
    }
    if (sample.seed != seed || sample.share != random.uniform(0.1, 0.9)) FAIL("sample " << i);
    if (!known.insert(sample.seed).second) FAIL("seed of sample " << i << " was there before");
  }
  REQUIRE(last > 0);
  // A later start takes the seeds before it into account.
  CHECK(pair_samples(5, 2, last, 1).front() == samples[static_cast<std::size_t>(last)]);
}
