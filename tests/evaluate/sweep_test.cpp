#include "ip2p/evaluate/sweep.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "data/made_pairs.hpp"
#include "ip2p/evaluate/edit_scores.hpp"
#include "ip2p/evaluate/edit_set.hpp"
#include "ip2p/evaluate/run_sweep.hpp"
#include "ip2p/evaluate/sweep_journal.hpp"
#include "ip2p/evaluate/sweep_plot.hpp"
#include "ip2p/evaluate/sweep_table.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;
using Texts = std::vector<std::string>;

const nlohmann::json settings{{"seed", 0}};

/// Pictures of 64x64 pixels and the list that names them.
std::filesystem::path write_list(const ScratchDir& scratch, int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const auto name = fmt::format("{}.png", i);
    write_image(scratch / name, patterned(64, 64, 17 * i));
    const nlohmann::json line{
        {"file", name}, {"input", "a lake"}, {"edit", fmt::format("edit {}", i)}, {"output", "a lake in winter"}};
    lines += line.dump() + "\n";
  }
  write_text(scratch / "edits.jsonl", lines);
  return scratch / "edits.jsonl";
}

EditSet listed(const ScratchDir& scratch, int count, const EditSetOptions& options = {.resolution = 64, .seed = 100}) {
  return EditSet::from_list(write_list(scratch, count), scratch.path(), options);
}

std::vector<SweepPoint> two_curves() {
  auto points = Sweep::parse("fade strength=0.5,1").points();
  for (auto& point : Sweep::parse("input").points()) points.push_back(std::move(point));
  return points;
}

/// Methods that count their calls.
struct Drawn {
  int pictures = 0;
  std::map<std::string, std::vector<std::uint64_t>> seeds;  ///< By the id of the edit.

  std::map<std::string, EditMethod> methods() {
    return {{"fade",
             [this](const PreparedEdit& edit, const EditSettings& settings) {
               ++pictures;
               seeds[edit.id].push_back(edit.seed);
               return edit.photograph * settings.number("strength");
             }},
            {"input", [this](const PreparedEdit& edit, const EditSettings&) {
               ++pictures;
               seeds[edit.id].push_back(edit.seed);
               return edit.photograph;
             }}};
  }
};

/// The picture's largest value and the photograph's mean; fails after `most` calls.
EditMeasure peak(int most = 1000) {
  return [left = std::make_shared<int>(most)](const PreparedEdit& edit) -> PictureMeasure {
    return [photograph = edit.photograph, left](const at::Tensor& picture) -> EditMeasures {
      if (--*left < 0) throw Error("the lights went out");
      return {{"peak", picture.max().item<double>()}, {"mean", photograph.mean().item<double>()}};
    };
  };
}

Texts ids_of(const EditSet& edits) {
  Texts ids;
  for (std::int64_t i = 0; i < edits.size(); ++i) ids.push_back(edits.id(i));
  return ids;
}

std::string csv_of(const std::filesystem::path& folder, const EditSet& edits) {
  const auto points = two_curves();
  return sweep_csv(sweep_table(points, ids_of(edits), SweepResults::read(folder, settings), {.resamples = 200}));
}

/// The whole run of one process in a folder.
void run_in(const std::filesystem::path& folder, const EditSet& edits, Drawn& drawn, const EditMeasure& measure,
            SweepOptions options = {}) {
  const auto before = SweepResults::read(folder, settings);
  SweepJournal journal(folder, options.rank, settings);
  run_sweep(two_curves(), edits, drawn.methods(), measure, before, journal, options);
}

SweepRow row_of(const SweepPoint& point, double x, double y) {
  return {point, 2, {{"clip/direction", {x, x - 0.1, x + 0.1}}, {"clip/image", {y, y - 0.2, y + 0.2}}}};
}

}  // namespace

TEST_CASE("sweep_values: ranges end where they say, free of rounding errors", "[evaluate]") {
  CHECK(sweep_values("1.0:2.2:0.2") == Texts{"1", "1.2", "1.4", "1.6", "1.8", "2", "2.2"});
  CHECK(sweep_values("0.3:0.9:0.1") == Texts{"0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"});
  CHECK(sweep_values("0:1:0.25") == Texts{"0", "0.25", "0.5", "0.75", "1"});
  CHECK(sweep_values("-0.3:0.3:0.3") == Texts{"-0.3", "0", "0.3"});
  CHECK(sweep_values("0:1:0.4") == Texts{"0", "0.4", "0.8"});
  CHECK(sweep_values("2:2:1") == Texts{"2"});
  CHECK(sweep_values("euler,heun") == Texts{"euler", "heun"});
  CHECK(sweep_values("100") == Texts{"100"});
  for (const char* wrong : {"1:2", "1:2:0", "2:1:0.5", "1:2:x", "1:2:nan", "0:1000:0.1", "1:2:3:4"}) {
    CHECK_THROWS_WITH(sweep_values(wrong), Contains("expected FIRST:LAST:STEP") && Contains(wrong));
  }
  CHECK_THROWS_WITH(sweep_values("1,,2"), Contains("expected one between commas, found none in '1,,2'"));
  CHECK_THROWS_WITH(sweep_values("1,2,1"), Contains("expected each once, found '1' twice"));
}

TEST_CASE("Sweep: the points of a curve have all settings, and keys that do not depend on names", "[evaluate]") {
  auto sweep = Sweep::parse("instruct  image-scale=1:1.4:0.2 steps=20 name=ours");
  CHECK(sweep.name == "ours");
  CHECK(sweep.method == "instruct");
  CHECK(sweep.parameter == "image-scale");
  sweep.complete({{"image-scale", "1.5"}, {"steps", "100"}, {"text-scale", "7.5"}});
  const auto points = sweep.points();
  REQUIRE(points.size() == 3);
  CHECK(points[1].label == "1.2");
  CHECK(points[1].curve == "ours");
  CHECK(points[1].key() == "instruct image-scale=1.2 steps=20 text-scale=7.5");
  CHECK(points[1].settings.number("image-scale") == 1.2);
  CHECK(points[1].settings.count("steps") == 20);

  const auto single = Sweep::parse("input").points();
  REQUIRE(single.size() == 1);
  CHECK(single[0].key() == "input");
  CHECK(single[0].label.empty());

  CHECK_THROWS_WITH(Sweep::parse(""), Contains("expected a method and its settings, found none"));
  CHECK_THROWS_WITH(Sweep::parse("steps=3"), Contains("expected a method first, found 'steps=3'"));
  CHECK_THROWS_WITH(Sweep::parse("m steps"), Contains("expected NAME=VALUE after the method, found 'steps'"));
  CHECK_THROWS_WITH(Sweep::parse("m a=1,2 b=1,2"), Contains("expected one setting with several values, found a and b"));
  CHECK_THROWS_WITH(Sweep::parse("m a=1 a=2"), Contains("expected a once, found it twice"));
  CHECK_THROWS_WITH(Sweep::parse("m name=x name=y"), Contains("expected one name, found two"));
  CHECK_THROWS_WITH(Sweep::parse("m b=1,2").complete({{"a", "1"}, {"c", "2"}}),
                    Contains("curve 'm': m: expected settings among a, c, found 'b'"));
  CHECK_THROWS_WITH(Sweep::parse("m b=1").complete({}), Contains("expected settings among none, found 'b'"));
}

TEST_CASE("EditSettings says which setting is missing or not a number", "[evaluate]") {
  const EditSettings one({{"steps", "2.5"}, {"scale", "much"}});
  CHECK_THROWS_WITH(one.text("strength"), Contains("expected strength, found none"));
  CHECK_THROWS_WITH(one.number("scale"), Contains("scale: expected a finite number, found 'much'"));
  CHECK_THROWS_WITH(one.count("steps"), Contains("steps: expected a whole number from 1 to 1000000, found '2.5'"));
}

TEST_CASE("EditSet: a list of photographs and texts; the beginning of a list counts as the same set", "[evaluate]") {
  const ScratchDir scratch;
  const auto edits = listed(scratch, 3);
  CHECK(edits.size() == 3);
  const auto edit = edits.get(2);
  CHECK(edit.id == "2: 2.png");
  CHECK(edit.seed == 102);
  CHECK(edit.words.instruction == "edit 2");
  CHECK(edit.words.output == "a lake in winter");
  CHECK(tensor_to_images(edit.photograph, Rounding::nearest).front() == patterned(64, 64, 34));
  const auto beginning = EditSet::from_list(scratch / "edits.jsonl", scratch.path(), {.resolution = 64, .limit = 2});
  CHECK(beginning.size() == 2);
  CHECK(beginning.fingerprint() == edits.fingerprint());
  CHECK_THROWS_WITH(beginning.get(2), Contains("expected a number below 2, found 2"));
  // What a photograph shows counts by itself, wherever it lies.
  const auto before = edits.content(1);
  CHECK(before.size() == 16);
  CHECK(before != edits.content(2));
  CHECK(beginning.content(1) == before);
  write_image(scratch / "1.png", patterned(64, 64, 77));
  CHECK(edits.content(1) != before);
  std::filesystem::remove(scratch / "1.png");
  CHECK(edits.content(1).empty());
  CHECK(beginning.fingerprint() == edits.fingerprint());

  const auto refused = [&](const std::string& text, const std::string& words) {
    write_text(scratch / "wrong.jsonl", text);
    CHECK_THROWS_WITH(EditSet::from_list(scratch / "wrong.jsonl", scratch.path()), Contains(words));
  };
  refused("", "expected at least one line, found none");
  refused("\n{\"edit\": \"e\"}\n", "wrong.jsonl, line 2: expected texts edit, output and input");
  refused(R"({"edit": "e", "input": "i", "output": "o"})", "line 1: expected the text file, found none");
  refused(R"({"file": "9.png", "edit": "e", "input": "i", "output": "o"})", "names a photograph that is not there");
  CHECK_THROWS_WITH(EditSet::from_list(scratch / "none.jsonl", scratch.path()), Contains("cannot open"));
  CHECK_THROWS_WITH(EditSet::from_list(scratch / "edits.jsonl", scratch.path(), {.limit = -1}),
                    Contains("limit: expected 0 or more, found -1"));
}

TEST_CASE("EditSet: one pair of each prompt of the published layout, chosen by the seed", "[evaluate]") {
  const ScratchDir scratch;
  write_pair_folder(scratch.path(), 3);
  const auto open = [&](std::uint64_t seed) {
    return EditSet::from_pairs(PairFolder::open(scratch.path(), {.split = PairSplit::all}),
                               {.resolution = 64, .seed = seed});
  };
  const auto edits = open(1);
  REQUIRE(edits.size() == 3);
  const auto edit = edits.get(1);
  CHECK(edit.words.input == "before 1");
  CHECK((edit.id == "1: 0000001/10" || edit.id == "1: 0000001/20"));
  CHECK(edit.photograph.sizes() == at::IntArrayRef({1, 3, 64, 64}));
  CHECK(at::equal(open(1).get(1).photograph, edit.photograph));
  const auto content = edits.content(1);
  CHECK(content == open(1).content(1));
  CHECK(content != edits.content(2));
  Texts fingerprints;
  for (std::uint64_t seed = 1; seed < 9; ++seed) fingerprints.push_back(open(seed).fingerprint());
  std::sort(fingerprints.begin(), fingerprints.end());
  CHECK(fingerprints.front() != fingerprints.back());  // another seed chooses other pairs
  std::filesystem::remove(scratch / "seeds.json");
  write_text(scratch / "seeds.json", "[]");
  CHECK_THROWS_WITH(open(1), Contains("expected prompts in this split, found none"));
}

TEST_CASE("SweepJournal: a last line that was cut off is no sample, a damaged one is counted and left out",
          "[evaluate]") {
  const ScratchDir scratch;
  const auto path = scratch / "samples-0000.jsonl";
  {
    SweepJournal journal(scratch.path(), 0, settings);
    for (const char* edit : {"a", "b", "c"}) journal.add("input", edit, {{"score", 0.1 + 0.2}});
    CHECK_THROWS_WITH(SweepJournal(scratch.path(), 0, settings), Contains("expected no other process writing to it"));
    CHECK_THROWS_WITH(journal.add("input", "d", {{"score", std::nan("")}}),
                      Contains("d, input: score: expected a finite score, found nan"));
  }
  auto results = SweepResults::read(scratch.path(), settings);
  CHECK(results.size() == 3);
  REQUIRE(results.find("input", "b") != nullptr);
  CHECK(results.find("input", "b")->at("score") == 0.1 + 0.2);  // to the last bit
  CHECK(results.find("input", "d") == nullptr);

  const auto whole = read_text(path);
  for (std::size_t left = 1; left < 40; left += 13) {
    write_text(path, whole.substr(0, whole.size() - left));
    CHECK(SweepResults::read(scratch.path(), settings).size() == 2);
    SweepJournal(scratch.path(), 0, settings).add("input", "c", {{"score", 0.1 + 0.2}});
    CHECK(read_text(path) == whole);
  }
  auto damaged = whole;
  damaged[damaged.find("\"b\"") + 1] = 'x';
  write_text(path, damaged);
  results = SweepResults::read(scratch.path(), settings);
  CHECK(results.size() == 2);
  CHECK(results.damaged() == 1);
  CHECK(results.find("input", "x") == nullptr);

  // Whole lines that are no samples, such as those of another program.
  write_text(path, whole + ip2p::detail::sealed_line({{"unit", 1}}) +
                       ip2p::detail::sealed_line({{"point", "input"}, {"edit", "e"}, {"scores", {{"score", "high"}}}}));
  results = SweepResults::read(scratch.path(), settings);
  CHECK(results.size() == 3);
  CHECK(results.damaged() == 2);
  write_text(path, ip2p::detail::sealed_line({{"settings", {1, 2}}}));
  CHECK_THROWS_WITH(SweepResults::read(scratch.path(), settings),
                    Contains("belongs to another evaluation: expected an object, found [1,2]"));
  write_text(path, damaged);

  CHECK_THROWS_WITH(SweepResults::read(scratch.path(), {{"seed", 1}}),
                    Contains("belongs to another evaluation: seed: expected 1, found 0"));
  CHECK_THROWS_WITH(SweepJournal(scratch.path(), 0, {{"range", "compat"}}),
                    Contains("range: expected \"compat\", found null"));
  write_text(path, "something else\n");
  CHECK_THROWS_WITH(SweepJournal(scratch.path(), 0, settings), Contains("expected a journal of samples"));
  CHECK_THROWS_WITH(SweepResults::read(scratch.path(), settings), Contains("expected a journal of samples"));
  write_text(path, whole.substr(0, 9));  // killed before the first line was complete
  CHECK(SweepResults::read(scratch.path(), settings).size() == 0);
  SweepJournal(scratch.path(), 0, settings).add("input", "a", {});
  CHECK(SweepResults::read(scratch.path(), settings).size() == 1);
}

TEST_CASE("run_sweep: every point sees the same photographs and seeds; what is done is not drawn again", "[evaluate]") {
  const ScratchDir pictures, whole, broken;
  const auto edits = listed(pictures, 4);
  Drawn drawn;
  std::int64_t last = 0;
  run_in(whole.path(), edits, drawn, peak(), {.on_sample = [&](std::int64_t done, std::int64_t all) {
           CHECK(all == 12);
           CHECK(done == last + 1);
           last = done;
         }});
  CHECK(last == 12);
  CHECK(drawn.pictures == 12);
  REQUIRE(drawn.seeds.size() == 4);
  CHECK(drawn.seeds.at("3: 3.png") == std::vector<std::uint64_t>{103, 103, 103});
  const auto expected = csv_of(whole.path(), edits);
  const auto mean = edits.get(2).photograph.mean().item<double>();
  const auto results = SweepResults::read(whole.path(), settings);
  for (const auto& point : two_curves()) CHECK(results.find(point.key(), "2: 2.png")->at("mean") == mean);
  CHECK(results.find("fade strength=0.5", "2: 2.png")->at("peak") ==
        edits.get(2).photograph.max().item<float>() * 0.5F);

  Drawn first, second, third;
  CHECK_THROWS_WITH(run_in(broken.path(), edits, first, peak(5)), Contains("the lights went out"));
  CHECK(SweepResults::read(broken.path(), settings).size() == 5);
  CHECK_THROWS_WITH(csv_of(broken.path(), edits), Contains("expected 12 samples, found 7 missing"));
  run_in(broken.path(), edits, second, peak());
  CHECK(second.pictures == 7);
  CHECK(csv_of(broken.path(), edits) == expected);
  run_in(broken.path(), edits, third, peak());
  CHECK(third.pictures == 0);

  std::stop_source stop;
  stop.request_stop();
  const ScratchDir stopped;
  CHECK_THROWS_AS(run_in(stopped.path(), edits, third, peak(), {.stop = stop.get_token()}), Cancelled);
  CHECK(third.pictures == 0);
}

TEST_CASE("run_sweep: processes that share the edits arrive at the same table as one alone", "[evaluate]") {
  const ScratchDir pictures, alone, shared;
  const auto edits = listed(pictures, 5);
  Drawn one, a, b, c, more;
  run_in(alone.path(), edits, one, peak());
  run_in(shared.path(), edits, a, peak(), {.rank = 2, .processes = 3});
  run_in(shared.path(), edits, b, peak(), {.rank = 0, .processes = 3});
  CHECK_THROWS_WITH(csv_of(shared.path(), edits), Contains("found 6 missing"));
  run_in(shared.path(), edits, c, peak(), {.rank = 1, .processes = 3});
  CHECK(a.pictures == 3);
  CHECK(b.pictures == 6);
  CHECK(c.pictures == 6);
  CHECK(csv_of(shared.path(), edits) == csv_of(alone.path(), edits));
  run_in(shared.path(), edits, more, peak(), {.rank = 0, .processes = 2});  // another number of processes continues
  CHECK(more.pictures == 0);
  CHECK_THROWS_WITH(run_in(shared.path(), edits, more, peak(), {.rank = 2, .processes = 2}),
                    Contains("expected a rank below 2, found 2"));
}

TEST_CASE("run_sweep keeps pictures, makes lost ones again, and refuses what is not a picture", "[evaluate]") {
  const ScratchDir pictures, folder;
  const auto edits = listed(pictures, 3);
  const SweepOptions options{.kept = {folder.path(), 2}};
  Drawn drawn;
  run_in(folder.path(), edits, drawn, peak(), options);
  const auto points = two_curves();
  CHECK(read_image(options.kept.photograph(1)) == patterned(64, 64, 17));
  CHECK(read_image(options.kept.picture(1, points[2])) == patterned(64, 64, 17));
  CHECK(!std::filesystem::exists(options.kept.photograph(2)));
  std::filesystem::remove(options.kept.picture(0, points[1]));
  run_in(folder.path(), edits, drawn, peak(), options);
  CHECK(drawn.pictures == 10);
  CHECK(std::filesystem::exists(options.kept.picture(0, points[1])));

  const ScratchDir other;
  SweepJournal journal(other.path(), 0, settings);
  const auto none = SweepResults::read(other.path(), settings);
  const std::map<std::string, EditMethod> small{
      {"input", [](const PreparedEdit& edit, const EditSettings&) { return edit.photograph.narrow(2, 0, 32); }}};
  const auto input = Sweep::parse("input").points();
  CHECK_THROWS_WITH(run_sweep(input, edits, small, peak(), none, journal),
                    Contains("method input: expected a picture [1, 3, 64, 64], found [1, 3, 32, 64]"));
  CHECK_THROWS_WITH(run_sweep(points, edits, small, peak(), none, journal),
                    Contains("expected a method 'fade', found none"));
}

TEST_CASE("sweep_table: means and intervals of hand-made numbers, in the order of the edits", "[evaluate]") {
  const ScratchDir scratch;
  const auto points = Sweep::parse("m scale=1,2 name=a,b").points();
  {
    SweepJournal journal(scratch.path(), 3, settings);
    journal.add("m scale=1", "y", {{"s", 1.0}, {"t", 0.25}});
    journal.add("m scale=2", "x", {{"s", -2.0}, {"t", 0.5}});
    journal.add("m scale=1", "x", {{"s", 0.0}, {"t", 0.25}});
    journal.add("m scale=2", "y", {{"s", 4.0}, {"t", 1.0}});
    journal.add("m scale=3", "y", {{"s", 9.0}});  // of a curve that is not asked for
  }
  const auto results = SweepResults::read(scratch.path(), settings);
  const Texts edits{"x", "y"};
  CHECK(missing_samples(points, edits, results) == 0);
  const auto rows = sweep_table(points, edits, results);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].samples == 2);
  CHECK(rows[0].scores.at("s").mean == 0.5);
  // Two values: a quarter of all resamples draws the first one twice, another quarter the second.
  CHECK(rows[0].scores.at("s").low == 0.0);
  CHECK(rows[0].scores.at("s").high == 1.0);
  CHECK(sweep_csv(rows) ==
        "curve,label,point,score,samples,mean,low,high\n"
        "\"a,b\",1,m scale=1,s,2,0.5,0,1\n"
        "\"a,b\",1,m scale=1,t,2,0.25,0.25,0.25\n"
        "\"a,b\",2,m scale=2,s,2,1,-2,4\n"
        "\"a,b\",2,m scale=2,t,2,0.75,0.5,1\n");
  write_sweep_csv(scratch / "curves.csv", rows);
  CHECK(read_text(scratch / "curves.csv") == sweep_csv(rows));

  const Texts three{"x", "y", "z"};
  CHECK(missing_samples(points, three, results) == 2);
  CHECK_THROWS_WITH(sweep_table(points, three, results), Contains("expected 6 samples, found 2 missing"));
  CHECK_THROWS_WITH(sweep_table(points, Texts{}, results), Contains("expected at least one edit, found none"));
  SweepJournal(scratch.path(), 4, settings).add("m scale=2", "z", {{"s", 1.0}});
  SweepJournal(scratch.path(), 5, settings).add("m scale=1", "z", {{"s", 1.0}, {"t", 1.0}});
  CHECK_THROWS_WITH(sweep_table(points, three, SweepResults::read(scratch.path(), settings)),
                    Contains("m scale=2: expected t of all 3 edits, found it of 2"));
}

TEST_CASE("clip_measures returns the scores of edit_scores under the name of the CLIP, and SSIM", "[evaluate]") {
  const at::NoGradGuard no_grad;
  const ScratchDir pictures;
  const auto files = ModelFiles::open(fixture("vision/fixtures/tiny-clip"),
                                      {.tokenizer = fixture("pipeline/fixtures/tiny-ip2p/tokenizer")});
  const auto clip = load<Clip>(files);
  const auto edit = listed(pictures, 2).get(1);
  const auto picture = edit.photograph.flip({3}) * 1.25;  // beyond [-1, 1], as decoders return it
  const auto measured = clip_measures({{"as-is", clip, ClipRange::compat}, {"tiny", clip, ClipRange::correct}})(edit);
  const auto scores = measured(picture);
  CHECK(scores.size() == 9);
  for (const auto& [name, range] : {std::pair{"as-is", ClipRange::compat}, std::pair{"tiny", ClipRange::correct}}) {
    const auto direct =
        edit_scores(clip, edit.photograph, picture, {&edit.words.input, 1}, {&edit.words.output, 1}, range);
    const std::string prefix = name;
    CHECK(scores.at(prefix + "/direction") == direct.direction.item<double>());
    CHECK(scores.at(prefix + "/image") == direct.image.item<double>());
    CHECK(scores.at(prefix + "/text_before") == direct.text_before.item<double>());
    CHECK(scores.at(prefix + "/text_after") == direct.text_after.item<double>());
  }
  CHECK(scores.at("as-is/image") != scores.at("tiny/image"));
  CHECK(scores.at("ssim") < 0.9);
  const auto unedited = measured(edit.photograph);
  CHECK(unedited.at("ssim") == Approx(1.0).margin(1e-12));
  CHECK(unedited.at("tiny/direction") == 0.0);
  CHECK(unedited.at("tiny/image") == Approx(1.0).margin(1e-6));
}

TEST_CASE("sweep_plot_script contains the points, their intervals and labels", "[evaluate]") {
  auto points = Sweep::parse("m scale=1,2 name=it's").points();
  for (auto& point : Sweep::parse("input").points()) points.push_back(std::move(point));
  const std::vector<SweepRow> rows{row_of(points[0], 0.5, 0.8), row_of(points[1], 0.25, 0.9), row_of(points[2], 0, 1)};
  SweepPlot plot{.x = "clip/direction", .y = "clip/image"};
  plot.title = "one";
  const auto script = sweep_plot_script(rows, plot, "figure");
  CHECK_THAT(script, Contains("$curve1 << EOD\n0.5 0.4 0.6 0.8 0.6 1 \"1\"\n0.25 0.15 0.35 0.9 0.7 1.1 \"2\"\nEOD\n"));
  CHECK_THAT(script, Contains("$curve2 << EOD\n0 -0.1 0.1 1 0.8 1.2 \"\"\nEOD\n"));
  CHECK_THAT(script, Contains("title 'it''s'") && Contains("title 'input'") && Contains("set title 'one'"));
  CHECK_THAT(script, Contains("set output 'figure.svg'") && Contains("set output 'figure.png'"));
  plot.y = "clip/likeness";
  CHECK_THROWS_WITH(sweep_plot_script(rows, plot, "figure"),
                    Contains("expected a score 'clip/likeness' of every point, found none of m scale=1"));
  CHECK_THROWS_WITH(sweep_plot_script({}, plot, "figure"), Contains("expected points, found none"));
}

TEST_CASE("draw_sweep says what is missing and keeps the script", "[evaluate]") {
  const ScratchDir scratch;
  const auto points = Sweep::parse("m scale=1,2").points();
  const std::vector<SweepRow> rows{row_of(points[0], 0.5, 0.8), row_of(points[1], 0.25, 0.9)};
  SweepPlot plot{.x = "clip/direction", .y = "clip/image"};
  plot.program = "no-such-program";
  CHECK_THROWS_WITH(draw_sweep(scratch.path(), "figure", rows, plot),
                    Contains("no-such-program: cannot be started") && Contains("gnuplot-nox") && Contains("figure.gp"));
  CHECK(read_text(scratch / "figure.gp") == sweep_plot_script(rows, plot, "figure"));
  plot.program = "false";
  CHECK_THROWS_WITH(draw_sweep(scratch.path(), "figure", rows, plot),
                    Contains("false: expected it to draw") && Contains("found that it ended with status 1"));
  // Stands in for gnuplot: it is given the script in the folder itself.
  const auto draws = [&](const std::string& svg_end) {
    write_text(scratch / "draws", "#!/bin/sh\n{ cat \"$1\"; echo '" + svg_end +
                                      "'; } > figure.svg && { cat \"$1\"; echo 'IEND....'; } > figure.png\n");
    std::filesystem::permissions(scratch / "draws", std::filesystem::perms::owner_all);
    plot.program = (scratch / "draws").string();
    draw_sweep(scratch.path(), "figure", rows, plot);
  };
  draws("</svg>");
  CHECK(read_text(scratch / "figure.svg") == read_text(scratch / "figure.gp") + "</svg>\n");
  // On a full disk gnuplot draws a part and says that all is well.
  CHECK_THROWS_WITH(draws("</sv"), Contains("expected it to draw the whole of") && Contains("figure.svg, found"));
  CHECK_FALSE(std::filesystem::exists(scratch / "figure.svg"));
  CHECK_FALSE(std::filesystem::exists(scratch / ".figure.drawing"));
}
