#include "ip2p/data/pair_folder.hpp"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "data/made_pairs.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using namespace ip2p::testing;

namespace {

PairFolder all_of(const std::filesystem::path& path, std::int64_t largest_damage = 100) {
  return PairFolder::open(path, {.split = PairSplit::all, .largest_damage = largest_damage});
}

}  // namespace

TEST_CASE("The texts of a prompt are read under both spellings of their keys", "[data]") {
  const PairWords words{"make it red", "a car", "a red car", "u"};
  CHECK(parse_pair_words(R"({"edit":"make it red","input":"a car","output":"a red car","url":"u"})", "w") == words);
  CHECK(parse_pair_words(R"({"edit":"make it red","caption":"a car","output":"a red car","url":"u"})", "w") == words);
  CHECK(parse_pair_words(pair_words_json(words).dump(), "w") == words);
  CHECK(parse_pair_words(R"({"edit":"","input":"a","output":"b","url":null})", "w") == PairWords{"", "a", "b", ""});
  CHECK_THROWS_WITH(parse_pair_words("[1]", "p.json"), Contains("p.json: expected an object") && Contains("array"));
  CHECK_THROWS_WITH(parse_pair_words("{", "p.json"), Contains("p.json: expected JSON"));
  CHECK_THROWS_WITH(parse_pair_words(R"({"edit":"x","output":"y"})", "p.json"), Contains("found no text caption"));
  CHECK_THROWS_WITH(parse_pair_words(R"({"input":"x","output":"y"})", "p.json"), Contains("found no text edit"));
  CHECK_THROWS_WITH(parse_pair_words(R"({"edit":3,"input":"x","output":"y"})", "p.json"), Contains("no text edit"));
}

TEST_CASE("Splits are rounded down, like math.floor(share * count) in Python", "[data]") {
  using Range = std::pair<std::int64_t, std::int64_t>;
  struct {
    std::int64_t count, train, validation;
  } const cases[]{{1, 0, 0},
                  {2, 1, 1},
                  {10, 9, 9},
                  {20, 18, 19},
                  {21, 18, 19},
                  {40, 36, 38},
                  {100, 90, 95},
                  {313010, 281709, 297359},
                  {451990, 406791, 429390}};
  for (const auto& c : cases) {
    INFO(c.count);
    CHECK((split_range(PairSplit::train, c.count) == Range{0, c.train}));
    CHECK((split_range(PairSplit::validation, c.count) == Range{c.train, c.validation}));
    CHECK((split_range(PairSplit::test, c.count) == Range{c.validation, c.count}));
    CHECK((split_range(PairSplit::all, c.count) == Range{0, c.count}));
  }
}

TEST_CASE("A published folder returns every pair of a prompt, chosen by one random number", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 20);
  const auto folder = all_of(scratch.path());
  REQUIRE(folder.size() == 20);
  CHECK(PairFolder::open(scratch.path()).size() == 18);
  const auto test = PairFolder::open(scratch.path(), {.split = PairSplit::test});
  REQUIRE(test.size() == 1);
  SampleRandom any(0, 0, 0);
  CHECK(test.get(0, any).instruction == "edit 19");

  for (const double u : {0.0, 0.3, 0.34, 0.66, 0.67, 0.999}) {
    const auto pair = folder.read({5, u});
    const auto seed = std::to_string(10 * (1 + static_cast<int>(u * 3)));
    CHECK(pair.id == "0000005/" + seed);
    CHECK(pair.id == folder.id({5, u}));
    CHECK(pair.before == read_image(scratch.path() / "0000005" / (seed + "_0.jpg")));
    CHECK(pair.after == read_image(scratch.path() / "0000005" / (seed + "_1.jpg")));
    CHECK(pair.instruction == "edit 5");
    CHECK(pair.input == "before 5");
    CHECK(pair.output == "after \u00e9 5");
  }
  SampleRandom one(3, 4, 5), again(3, 4, 5), other(3, 4, 5);
  CHECK(folder.get(2, one) == folder.read({2, again.uniform()}));
  static_cast<void>(other.uniform());
  CHECK(one.uniform() == other.uniform());  // exactly one number was drawn
  CHECK(folder.damage().empty());
  CHECK_THROWS_WITH(folder.get(20, one), Contains("expected a prompt below 20, found 20"));
}

TEST_CASE("A folder is listed without seeds.json when asked, and refused when not", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 4);
  std::filesystem::create_directories(scratch.path() / "0000004");  // no pictures: not in the list
  write_text(scratch.path() / "0000003" / "notes.jpg", "x");
  const auto listed = PairFolder::open(scratch.path(), {.split = PairSplit::all, .scan = true});
  CHECK((listed.prompts() == all_of(scratch.path()).prompts()));
  std::filesystem::remove(scratch.path() / "seeds.json");
  CHECK_THROWS_WITH(all_of(scratch.path()),
                    Contains("expected seeds.json") && Contains("set 'scan = true' to list the folder"));
  CHECK_THROWS_WITH(all_of(scratch.path() / "absent"), Contains("is not a folder"));
  const auto refuses = [&](const std::string& text, const std::string& words) {
    INFO(text);
    write_text(scratch.path() / "seeds.json", text);
    CHECK_THROWS_WITH(all_of(scratch.path()), Contains(words));
  };
  refuses("{", "seeds.json: expected JSON");
  refuses("{}", "found object");
  refuses(R"([["a", ["1"]], ["b"]])", R"(entry 1: expected ["prompt", ["seed", ...]], found ["b"])");
  refuses(R"([["../a", ["1"]]])", "expected letters and digits as a prompt's folder, found '../a'");
  refuses(R"([["a", ["1/2"]]])", "expected letters and digits as a seed, found '1/2'");
  refuses(R"([["a", ["1"]], ["a", ["2"]]])", "expected each prompt once, found another 'a'");
  refuses(R"([["a", ["1", "1"]]])", "expected each seed of prompt 'a' once, found another '1'");
  write_text(scratch.path() / "seeds.json", R"([["0000001", [20, 10]], ["0000000", ["10"]]])");
  const auto sorted = all_of(scratch.path());
  CHECK((sorted.prompts() == std::vector<PromptSeeds>{{"0000000", {"10"}}, {"0000001", {"10", "20"}}}));
}

TEST_CASE("Damaged pairs are listed and replaced by the next intact one, whatever was read before", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 9);
  const auto path_of = [&](const char* name) { return scratch.path() / name; };
  std::filesystem::remove(path_of("0000001/10_1.jpg"));               // missing
  std::filesystem::resize_file(path_of("0000001/20_0.jpg"), 300);     // truncated
  write_text(path_of("0000002/prompt.json"), "{\"edit\": ");          // malformed
  write_text(path_of("0000005/20_0.jpg"), "<html>not found</html>");  // no picture
  write_image(path_of("0000008/30_1.jpg"), patterned(20, 20, 0));     // another size
  const auto expected = [](std::int64_t i, double u) -> std::string {
    if (i == 1 || i == 2) return "0000003/10";
    if (i == 5 && u >= 0.3 && u < 0.6) return "0000005/30";
    if (i == 8 && u > 0.7) return "0000008/10";
    return fmt::format("{:07}/{}", i, 10 * (1 + static_cast<int>(u * static_cast<double>(1 + i % 3))));
  };
  const auto folder = all_of(scratch.path());
  const auto reversed = all_of(scratch.path());
  for (std::int64_t i = 0; i < 9; ++i) {
    for (const double u : {0.1, 0.5, 0.9}) {
      INFO(i << " " << u);
      CHECK(folder.read({i, u}).id == expected(i, u));
      CHECK(reversed.read({8 - i, u}).id == expected(8 - i, u));
    }
  }
  const auto damage = folder.damage();
  CHECK((damage == reversed.damage()));
  REQUIRE(damage.size() == 5);
  CHECK(damage[0].path == path_of("0000001/10").string());
  CHECK_THAT(damage[0].reason, Contains("10_1.jpg: no such file"));
  CHECK_THAT(damage[1].reason, Contains("20_0.jpg"));
  CHECK(damage[2].path == path_of("0000002/prompt.json").string());
  CHECK_THAT(damage[2].reason, Contains("expected JSON"));
  CHECK_THAT(damage[3].reason, Contains("20_0.jpg"));
  CHECK_THAT(damage[4].reason, Contains("expected 40x32 pixels") && Contains("found 20x20"));

  // The limit counts places, not accesses.
  const auto strict = all_of(scratch.path(), 3);
  CHECK(strict.read({1, 0.0}).id == "0000003/10");
  CHECK(strict.read({1, 0.9}).id == "0000003/10");
  CHECK(strict.damage().size() == 3);
  CHECK_THROWS_WITH(strict.read({5, 0.5}), Contains("expected at most 3 damaged places, found 4"));

  for (int i = 0; i < 9; ++i) std::filesystem::remove(scratch.path() / fmt::format("{:07}/prompt.json", i));
  CHECK_THROWS_WITH(all_of(scratch.path()).read({0, 0.0}),
                    Contains("expected a sound pair, found none among 9 prompts"));
}

TEST_CASE("A prompt without seeds is skipped, and a folder serves several threads", "[data]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 6);
  write_text(scratch.path() / "seeds.json",
             R"([["0000000",[]],["0000001",["10","20"]],["0000002",["10"]],["0000003",["99"]]])");
  const auto folder = all_of(scratch.path());
  CHECK(folder.id({0, 0.5}) == "0000000/");
  CHECK(folder.read({0, 0.5}).id == "0000001/20");
  std::vector<std::string> found(8);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < found.size(); ++t) {
      threads.emplace_back([&, t] { found[t] = folder.read({3, 0.5}).id; });
    }
  }
  CHECK(std::count(found.begin(), found.end(), "0000001/20") == 8);
  CHECK(folder.damage().size() == 2);
}
