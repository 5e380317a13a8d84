#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "data/made_pairs.hpp"
#include "ip2p/data/pair_folder.hpp"
#include "ip2p/data/pair_set_writer.hpp"
#include "ip2p/data/work_ledger.hpp"
#include "ip2p/data/write_image_folder.hpp"
#include "support/catch.hpp"

using namespace ip2p;
using namespace ip2p::testing;
using namespace std::chrono_literals;

namespace {

namespace fs = std::filesystem;

const nlohmann::json none = nlohmann::json::object();

void make_older(const fs::path& path, std::chrono::seconds age) {
  fs::last_write_time(path, fs::file_time_type::clock::now() - age);
}

PairWords words_of(int i) {
  return {fmt::format("edit {} \"quoted\"", i), fmt::format("before {}", i), fmt::format("after \u00e9 {}", i), ""};
}

GeneratedPair pair_of(std::uint64_t seed, double direction) {
  return {patterned(40, 32, static_cast<std::int64_t>(seed)),
          patterned(40, 32, static_cast<std::int64_t>(seed) + 100),
          {.seed = seed,
           .share = 0.25,
           .text_scale = 8,
           .caption_before = 0.31386277079582214,
           .caption_after = 0.25,
           .direction = direction,
           .image = 0.75}};
}

/// Names of everything in a folder, sorted.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("WorkLedger: a unit belongs to one process until it is finished or released", "[data]") {
  const ScratchDir scratch;
  WorkLedger first(scratch / "ledger");
  auto second = std::make_unique<WorkLedger>(scratch / "ledger");
  CHECK(first.finished().empty());
  CHECK_FALSE(first.record("7").has_value());
  REQUIRE(first.claim("7") == Claim::taken);
  CHECK(first.claimed() == "7");
  CHECK(second->claim("7") == Claim::busy);
  CHECK_THROWS_WITH(first.claim("8"), Contains("expected one unit at a time, found '7' claimed"));
  REQUIRE(second->claim("8") == Claim::taken);
  const nlohmann::json record{{"kept", 3}, {"words", "\u00e9"}};
  first.finish(record);
  CHECK_FALSE(first.claimed().has_value());
  CHECK((first.record("7").value() == record));
  CHECK(first.claim("7") == Claim::done);
  CHECK((first.finished() == std::set<std::string>{"7"}));
  CHECK(first.claim("8") == Claim::busy);
  second.reset();  // its destructor releases what it has
  REQUIRE(first.claim("8") == Claim::taken);
  first.release();
  first.release();
  CHECK(first.claim("8") == Claim::taken);
  first.finish(none);
  CHECK_THROWS_WITH(first.finish(none), Contains("expected a claimed unit to finish, found none"));
  CHECK(names_in(scratch / "ledger" / "claims").empty());
  for (const char* name : {"", "../a", ".hidden", "a b"}) {
    CHECK_THROWS_WITH(first.claim(name), Contains("expected letters, digits, '-' and '_' as a unit"));
  }
}

TEST_CASE("WorkLedger: many processes at a time do every unit once", "[data]") {
  const ScratchDir scratch;
  std::vector<std::atomic<int>> made(60);
  {
    std::vector<std::jthread> workers;
    for (int w = 0; w < 6; ++w) {
      workers.emplace_back([&, w] {
        WorkLedger ledger(scratch.path());
        for (std::size_t k = 0; k < made.size(); ++k) {
          const auto unit = (k + static_cast<std::size_t>(w) * 10) % made.size();
          if (ledger.claim(std::to_string(unit)) != Claim::taken) continue;
          ++made[unit];
          ledger.finish(none);
        }
      });
    }
  }
  for (const auto& count : made) CHECK(count.load() == 1);
  CHECK(WorkLedger(scratch.path()).finished().size() == made.size());
}

TEST_CASE("WorkLedger: the units of a process that dies are taken over after the lease, those of a living one are not",
          "[data]") {
  const ScratchDir scratch;
  const WorkLedgerOptions options{.lease = 600ms};
  WorkLedger ledger(scratch.path(), none, options);
  const auto child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    WorkLedger dying(scratch.path(), none, options);
    _exit(dying.claim("1") == Claim::taken ? 0 : 1);  // as if killed: nothing is released
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(ledger.claim("1") == Claim::busy);
  std::this_thread::sleep_for(900ms);
  REQUIRE(ledger.claim("1") == Claim::taken);

  // This one is alive and shows it, however long it takes.
  WorkLedger other(scratch.path(), none, options);
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(300ms);
    CHECK(other.claim("1") == Claim::busy);
  }
  ledger.finish(none);
  CHECK(other.claim("1") == Claim::done);
  CHECK(names_in(scratch / "claims").empty());
}

TEST_CASE("WorkLedger: a process that lives and hangs loses its unit, one that goes on keeps it", "[data]") {
  const ScratchDir scratch;
  const WorkLedgerOptions options{.lease = 600ms, .patience = 600ms};
  WorkLedger hanging(scratch.path(), none, options), working(scratch.path(), none, options);
  WorkLedger other(scratch.path(), none, options);
  REQUIRE(hanging.claim("1") == Claim::taken);
  REQUIRE(working.claim("2") == Claim::taken);
  auto claim = other.claim("1");
  CHECK(claim == Claim::busy);
  for (int i = 0; i < 200 && claim == Claim::busy; ++i) {
    std::this_thread::sleep_for(50ms);
    working.progressed();
    claim = other.claim("1");
  }
  REQUIRE(claim == Claim::taken);
  other.finish({{"by", "other"}});
  CHECK(other.claim("2") == Claim::busy);
  // It wakes up, and does no harm.
  hanging.finish({{"by", "hanging"}});
  CHECK(other.claim("1") == Claim::done);
  CHECK(names_in(scratch / "claims") == std::vector<std::string>{"2"});
}

TEST_CASE("WorkLedger: a claim from the future counts from now on", "[data]") {
  const ScratchDir scratch;
  WorkLedger ledger(scratch.path(), none, {.lease = 300ms});
  write_text(scratch / "claims/1", "somebody who died before the clock was set back");
  make_older(scratch / "claims/1", -24h);
  CHECK(ledger.claim("1") == Claim::busy);
  std::this_thread::sleep_for(600ms);
  CHECK(ledger.claim("1") == Claim::taken);
}

TEST_CASE("WorkLedger: of two processes that see a dead claim, only one gets the unit", "[data]") {
  const ScratchDir scratch;
  WorkLedger first(scratch.path()), second(scratch.path());
  for (int round = 0; round < 40; ++round) {
    const auto unit = std::to_string(round);
    write_text(scratch / ("claims/" + unit), "somebody");
    make_older(scratch / ("claims/" + unit), 1h);
    std::atomic<int> ready = 0, taken = 0;
    const auto attempt = [&](WorkLedger& ledger) {
      ++ready;
      while (ready < 2) std::this_thread::yield();
      if (ledger.claim(unit) == Claim::taken) ++taken;
    };
    std::jthread a([&] { attempt(first); });
    attempt(second);
    a.join();
    CHECK(taken.load() == 1);
    first.release();
    second.release();
  }
}

TEST_CASE("WorkLedger: a claim that was taken over is not released by the process that lost it", "[data]") {
  const ScratchDir scratch;
  WorkLedger slow(scratch.path()), quick(scratch.path());
  REQUIRE(slow.claim("1") == Claim::taken);
  make_older(scratch / "claims/1", 1h);  // as if it had been suspended
  REQUIRE(quick.claim("1") == Claim::taken);
  slow.finish({{"by", "slow"}});
  CHECK(fs::exists(scratch / "claims/1"));
  quick.finish({{"by", "quick"}});
  CHECK_FALSE(fs::exists(scratch / "claims/1"));
  CHECK(quick.record("1").value().at("by") == "quick");
}

TEST_CASE("WorkLedger: damaged records are noticed, and their units are done again", "[data]") {
  const ScratchDir scratch;
  WorkLedger ledger(scratch.path());
  REQUIRE(ledger.claim("1") == Claim::taken);
  ledger.finish({{"kept", 12345}});
  const auto path = scratch / "done/1.json";
  const auto sound = read_text(path);
  auto changed = sound;
  changed[changed.find("12345")] = '9';
  for (const auto& text : {std::string(), sound.substr(0, sound.size() / 2), changed, std::string("[]"),
                           std::string(R"({"kept": 12345, "sum": 7})"), std::string("\xff\xfe")}) {
    INFO(text);
    write_text(path, text);
    CHECK_FALSE(ledger.record("1").has_value());
  }
  CHECK(ledger.claim("1") == Claim::done);
  ledger.reopen("1");
  REQUIRE(ledger.claim("1") == Claim::taken);
  ledger.finish({{"kept", 12345}});
  CHECK(read_text(path) == sound);
}

TEST_CASE("WorkLedger: one folder, one run; a failed write is an error", "[data]") {
  const ScratchDir scratch;
  const nlohmann::json settings{{"steps", 100}, {"filter", "paper"}};
  { const WorkLedger ledger(scratch / "a", settings); }
  { const WorkLedger again(scratch / "a", settings); }
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", {{"steps", 50}, {"filter", "paper"}}),
                    Contains("belongs to a run with other settings: steps: expected 50, found 100"));
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", {{"steps", 100}, {"filter", "paper"}, {"seed", 1}}),
                    Contains("seed: expected 1, found null"));
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", {{"steps", 100}}), Contains("filter: expected null, found \"paper\""));
  write_text(scratch / "a/settings.json", "{");  // damaged: written again
  { const WorkLedger ledger(scratch / "a", settings); }
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", none), Contains("other settings"));
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", settings, {.lease = 0ms}), Contains("expected a lease above 0"));
  CHECK_THROWS_WITH(WorkLedger(scratch / "a", settings, {.patience = -1ms}),
                    Contains("expected a patience of at least 0"));
  write_text(scratch / "file", "x");
  CHECK_THROWS_WITH(WorkLedger(scratch / "file"), Contains("cannot create the folder"));
  CHECK_THROWS_WITH(WorkLedger("/proc/ledger"), Contains("cannot create the folder '/proc/ledger/claims'"));
  WorkLedger ledger(scratch / "a", settings);
  fs::remove_all(scratch / "a");
  CHECK_THROWS_WITH(ledger.claim("1"), Contains("cannot write") && Contains("No such file or directory"));
  CHECK_THROWS_WITH(ledger.finished(), Contains("cannot list"));
}

TEST_CASE("PairSetWriter: the set has the published layout, and PairFolder reads it", "[data]") {
  const ScratchDir scratch;
  const auto out = scratch / "set";
  fs::create_directories(out);
  const PairSetWriter set(out, out / ".ledger/unfinished");
  std::map<std::string, std::vector<std::string>> seeds;
  for (int i : {2, 0, 1}) {
    const auto prompt = prompt_folder(i);
    CHECK_FALSE(set.has(prompt));
    const std::vector<GeneratedPair> pairs{pair_of(20 + static_cast<std::uint64_t>(i), 0.5), pair_of(100, 0.25),
                                           pair_of(10, 0.125)};
    seeds[prompt] = set.publish(prompt, words_of(i), std::span(pairs).first(i == 1 ? 1 : 3));
    CHECK(set.has(prompt));
  }
  seeds["0000003"] = {};
  // By file name, as the released program lists them: '0' comes before '_'.
  CHECK((seeds["0000002"] == std::vector<std::string>{"100", "10", "22"}));
  CHECK(
      (names_in(out / "0000001") == std::vector<std::string>{"21_0.jpg", "21_1.jpg", "metadata.jsonl", "prompt.json"}));
  CHECK(read_text(out / "0000001/prompt.json") ==
        R"({"input": "before 1", "edit": "edit 1 \"quoted\"", "output": "after \u00e9 1"})");
  CHECK(read_text(out / "0000001/metadata.jsonl") ==
        "{\"seed\": 21, \"p2p_threshold\": 0.25, \"cfg_scale\": 8.0, \"clip_sim_0\": 0.31386277079582214, "
        "\"clip_sim_1\": 0.25, \"clip_sim_dir\": 0.5, \"clip_sim_image\": 0.75}\n");
  set.complete(seeds);
  CHECK(read_text(out / "seeds.json") ==
        R"([["0000000", ["100", "10", "20"]], ["0000001", ["21"]], ["0000002", ["100", "10", "22"]]])");

  const auto folder = PairFolder::open(out, {.split = PairSplit::all});
  REQUIRE(folder.size() == 3);
  CHECK((folder.prompts() == PairFolder::open(out, {.split = PairSplit::all, .scan = true}).prompts()));
  for (int i = 0; i < 3; ++i) {
    const auto pair = folder.read({i, 0.99});
    const auto made = pair_of(20 + static_cast<std::uint64_t>(i), 0);
    CHECK(pair.id == fmt::format("{:07}/{}", i, 20 + i));
    CHECK(pair.instruction == words_of(i).instruction);
    CHECK(pair.input == words_of(i).input);
    CHECK(pair.output == words_of(i).output);
    const auto stored = [](const Image& image) {
      return decode_image(encode_image(image, ImageFormat::jpeg, 100), "picture");
    };
    CHECK(pair.before == stored(made.before));
    CHECK(pair.after == stored(made.after));
  }
  CHECK(folder.damage().empty());
}

TEST_CASE("PairSetWriter writes texts and numbers like the published set, byte for byte", "[data]") {
  const auto data = shared_data();
  if (!data || !fs::is_directory(*data / "ip2p_pairs")) return;
  int prompts = 0, lines = 0;
  for (const auto& entry : fs::directory_iterator(*data / "ip2p_pairs")) {
    if (!entry.is_directory()) continue;
    INFO(entry.path().string());
    const auto text = read_text(entry.path() / "prompt.json");
    CHECK(ip2p::detail::prompt_text(parse_pair_words(text, "prompt.json")) == text);
    ++prompts;
    std::string written;
    std::ifstream file(entry.path() / "metadata.jsonl");
    for (std::string line; std::getline(file, line); ++lines) {
      const auto json = nlohmann::json::parse(line);
      written += ip2p::detail::metadata_line({json.at("seed"), json.at("p2p_threshold"), json.at("cfg_scale"),
                                              json.at("clip_sim_0"), json.at("clip_sim_1"), json.at("clip_sim_dir"),
                                              json.at("clip_sim_image")});
    }
    CHECK(written == read_text(entry.path() / "metadata.jsonl"));
  }
  CHECK(prompts > 0);
  CHECK(lines > 0);
}

TEST_CASE("PairSetWriter: a prompt appears whole, once, or not at all", "[data]") {
  const ScratchDir scratch;
  const auto out = scratch / "set";
  fs::create_directories(out);
  const PairSetWriter set(out, scratch / "unfinished");
  const std::vector<GeneratedPair> pairs{pair_of(1, 0.5)}, others{pair_of(2, 0.5), pair_of(3, 0.4)};
  static_cast<void>(set.publish("0000000", words_of(0), pairs));
  const auto picture = read_text(out / "0000000/1_0.jpg");
  // Another process made the same prompt, and was late.
  CHECK((set.publish("0000000", words_of(1), others) == std::vector<std::string>{"1"}));
  CHECK(names_in(out / "0000000").size() == 4);
  CHECK(read_text(out / "0000000/1_0.jpg") == picture);
  CHECK(names_in(scratch / "unfinished").empty());

  // What a killed process left behind is not in the set, and is removed when the set is complete.
  fs::create_directories(scratch / "unfinished/0000001.aaaa");
  write_text(scratch / "unfinished/0000001.aaaa/1_0.jpg", "half");
  set.complete({{"0000000", {"1"}}});
  CHECK(names_in(scratch / "unfinished").empty());
  CHECK((names_in(out) == std::vector<std::string>{"0000000", "seeds.json"}));
  set.complete({});
  CHECK(read_text(out / "seeds.json") == "[]");

  // A failure leaves nothing behind.
  auto broken = others;
  broken[1].after.pixels.pop_back();
  CHECK_THROWS_AS(set.publish("0000001", words_of(1), broken), Error);
  CHECK_FALSE(set.has("0000001"));
  CHECK(names_in(scratch / "unfinished").empty());
  CHECK_THROWS_WITH(PairSetWriter(scratch / "absent", scratch / "unfinished").publish("0000001", words_of(1), pairs),
                    Contains("absent/0000001': rename failed: No such file or directory"));
  CHECK_THROWS_WITH(PairSetWriter(out, "/proc/unfinished").publish("0000001", words_of(1), pairs),
                    Contains("cannot create the folder '/proc/unfinished"));
  CHECK_THROWS_WITH(PairSetWriter(out, "/proc/unfinished").complete({{"0000009", {"1"}}}),
                    Contains("cannot create the folder"));
  // NaN is not a JSON number.
  auto odd = pairs[0].numbers;
  odd.direction = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(ip2p::detail::metadata_line(odd), Contains("\"clip_sim_dir\": null"));
}

TEST_CASE("An image folder has the pictures' bytes and the published set's columns", "[data]") {
  const ScratchDir scratch;
  const auto set = scratch / "set", out = scratch / "images";
  write_pair_folder(set, 4);
  fs::remove(set / "0000002/20_1.jpg");
  const auto folder = PairFolder::open(set, {.split = PairSplit::all});
  fs::create_directories(out / "0000001");  // what a killed process left
  const auto left = out / "0000001/.10_0.jpg.0123456789abcdef.tmp";
  write_text(left, "half");
  std::int64_t last = 0, of = 0;
  const auto report = write_image_folder(folder, out, {.on_pair = [&](std::int64_t done, std::int64_t count) {
                                           CHECK(done > last);
                                           last = done;
                                           of = count;
                                         }});
  CHECK_FALSE(fs::exists(left));
  CHECK(report.pairs == 6);
  CHECK(last == 7);
  CHECK(of == 7);
  REQUIRE(report.skipped.size() == 1);
  CHECK(report.skipped[0].path == (set / "0000002/20").string());
  CHECK_THAT(report.skipped[0].reason, Contains("20_1.jpg: no such file"));
  const auto metadata = read_text(out / "metadata.jsonl");
  CHECK_THAT(metadata, Contains("{\"original_prompt\":\"before 1\",\"original_image_file_name\":\"0000001/10_0.jpg\","
                                "\"edit_prompt\":\"edit 1\",\"edited_prompt\":\"after \u00e9 1\","
                                "\"edited_image_file_name\":\"0000001/10_1.jpg\"}\n"));
  CHECK(std::count(metadata.begin(), metadata.end(), '\n') == 6);
  CHECK_FALSE(fs::exists(out / "0000002/20_0.jpg"));
  for (const char* name : {"0000000/10_0.jpg", "0000002/30_1.jpg"})
    CHECK(read_text(out / name) == read_text(set / name));

  // A second run adds what is missing, and nothing else.
  fs::remove(out / "metadata.jsonl");
  fs::resize_file(out / "0000000/10_0.jpg", 100);
  struct stat before {
  }, after{};
  REQUIRE(stat((out / "0000001/10_0.jpg").c_str(), &before) == 0);
  std::stop_source stop;
  stop.request_stop();
  CHECK_THROWS_AS(write_image_folder(folder, out, {.stop = stop.get_token()}), Cancelled);
  CHECK_FALSE(fs::exists(out / "metadata.jsonl"));
  static_cast<void>(write_image_folder(folder, out));
  REQUIRE(stat((out / "0000001/10_0.jpg").c_str(), &after) == 0);
  CHECK(before.st_ino == after.st_ino);
  CHECK(read_text(out / "0000000/10_0.jpg") == read_text(set / "0000000/10_0.jpg"));
  CHECK(read_text(out / "metadata.jsonl") == metadata);
  CHECK((names_in(out) == std::vector<std::string>{"0000000", "0000001", "0000002", "0000003", "metadata.jsonl"}));

  CHECK_THROWS_WITH(write_image_folder(folder, scratch / "strict", {.largest_damage = 0}),
                    Contains("expected at most 0 damaged pairs, found 1"));
  CHECK_THROWS_WITH(write_image_folder(folder, "/proc/images"), Contains("cannot create the folder '/proc/images'"));
  write_text(set / "seeds.json", R"([["0000003", ["99"]]])");
  CHECK_THROWS_WITH(write_image_folder(PairFolder::open(set, {.split = PairSplit::all}), scratch / "empty"),
                    Contains("expected a sound pair in") && Contains("99_0.jpg: no such file"));
  write_text(set / "seeds.json", "[]");
  CHECK_THROWS_WITH(write_image_folder(PairFolder::open(set, {.split = PairSplit::all}), scratch / "empty"),
                    Contains("expected at least one pair in"));
}
