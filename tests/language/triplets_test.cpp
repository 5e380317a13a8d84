#include "ip2p/language/triplets.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/language/moderation.hpp"
#include "ip2p/language/triplet_generator.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

using ip2p::parse_triplet;
using ip2p::SourceCaption;
using ip2p::Triplet;
using ip2p::TripletRejection;
using ip2p::testing::ScratchDir;

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TripletRejection rejection(const std::string& caption, const std::string& completion) {
  const auto [triplet, why] = parse_triplet(caption, completion);
  REQUIRE(!triplet);
  return why;
}

/// Answers as caption and try demand; counts calls, and fails at one of them.
struct Scripted {
  std::int64_t tries = 4;
  std::int64_t fail_at = -1;
  std::int64_t calls = 0;
  std::vector<std::uint64_t> samples = {};

  std::vector<ip2p::Completion> complete(std::span<const ip2p::CompletionRequest> requests,
                                         const ip2p::CompletionOptions& options) {
    CHECK(options.stop == std::vector<std::string>{"\nEND"});
    ip2p::require(calls++ != fail_at, "the service is gone");
    std::vector<ip2p::Completion> answers;
    for (const auto& request : requests) {
      samples.push_back(request.sample);
      const auto attempt = static_cast<std::int64_t>(request.sample) % tries;
      const auto caption = request.prompt.substr(0, request.prompt.find("\n##\n"));
      ip2p::Completion answer{"make it blue\n%%\nblue " + caption, ip2p::FinishReason::stop, 9};
      if (caption == "mute") answer.text = "no delimiter";
      if (caption == "late" && attempt < 2) answer.text = attempt == 0 ? "a\n%%\nb\n%%\nc" : "same\n%%\n Late! ";
      if (caption == "blank" && attempt < 3) answer.text = " \n%%\nx";
      if (caption == "withheld" && attempt < 1) answer.finish = ip2p::FinishReason::filter;
      answers.push_back(std::move(answer));
    }
    return answers;
  }
};
static_assert(ip2p::LanguageModel<Scripted>);

std::vector<SourceCaption> captions() {
  return {{"cat", "u/1"}, {"mute", ""}, {"late", ""}, {"dog", "u/1"},   {" cat ", "u/2"},
          {"blank", ""},  {"sofa", ""}, {"late", ""}, {"withheld", ""}, {"last", "u/3"}};
}

}  // namespace

TEST_CASE("Triplets have the text format of the released set", "[language]") {
  const ip2p::TripletFormat format;
  CHECK(format.prompt("a cat") == "a cat\n##\n");
  CHECK(format.completion({"a cat", "make it a dog", "a dog", ""}) == "make it a dog\n%%\na dog\nEND");
}

TEST_CASE("parse_triplet takes exactly one delimiter and a caption that changes", "[language]") {
  const auto [triplet, ignored] = parse_triplet("a cat", "make it a dog\n%%\na dog");
  REQUIRE(triplet);
  CHECK(triplet->caption == "a cat");
  CHECK(triplet->instruction == "make it a dog");
  CHECK(triplet->edited == "a dog");
  CHECK(rejection("a cat", "make it a dog") == TripletRejection::no_delimiter);
  CHECK(rejection("a cat", "a %% b") == TripletRejection::no_delimiter);
  CHECK(rejection("a cat", "") == TripletRejection::no_delimiter);
  CHECK(rejection("a cat", "x\n%%\na dog\n%%\n") == TripletRejection::several_delimiters);
  CHECK(rejection("a cat", "\n%%\na dog") == TripletRejection::empty);
  CHECK(rejection("a cat", "x\n%%\n \t\u00a0") == TripletRejection::empty);
  CHECK(rejection("a cat", "x\n%%\na cat") == TripletRejection::unchanged);
  CHECK(rejection("A cat.", "x\n%%\n  a CAT?! ") == TripletRejection::unchanged);
  CHECK(rejection("\u00c9t\u00e9", "x\n%%\n\u00e9t\u00c9.") == TripletRejection::unchanged);
  CHECK(parse_triplet("a cat", "x\n%%\na cat, red").first);
}

TEST_CASE("parse_triplet splits where the released program splits", "[language]") {
  // "x\n%%\n%%\ny".split("\n%%\n") in Python: ['x', '%%\ny'], because the line end in between is used up.
  const auto [triplet, ignored] = parse_triplet("a cat", "x\n%%\n%%\ny");
  REQUIRE(triplet);
  CHECK(triplet->edited == "%%\ny");
}

TEST_CASE("kept_words counts the caption's words in the edited caption", "[language]") {
  CHECK(ip2p::kept_words("a cat on a sofa", "A dog on a sofa") == Approx(0.8));
  CHECK(ip2p::kept_words("a a a b", "a b") == Approx(0.5));
  CHECK(ip2p::kept_words("one", "two") == 0.0);
  CHECK(ip2p::kept_words(" ", "two") == 1.0);
}

TEST_CASE("Triplets are read with every spelling of the keys and written with two", "[language]") {
  const ScratchDir scratch;
  write(scratch / "all.jsonl",
        "{\"input\": \"a\", \"edit\": \"b\", \"output\": \"c\"}\n\n"
        "{\"caption\": \"a\", \"edit\": \"b\", \"output\": \"c\", \"url\": \"u\"}\r\n"
        "{\"caption\": \"a\", \"instruction\": \"b\", \"edited_caption\": \"c\", \"url\": null}");
  const auto triplets = ip2p::read_triplets(scratch / "all.jsonl");
  REQUIRE(triplets.size() == 3);
  for (const auto& triplet : triplets) {
    CHECK(triplet.caption == "a");
    CHECK(triplet.instruction == "b");
    CHECK(triplet.edited == "c");
  }
  CHECK(triplets[1].url == "u");
  CHECK(triplets[2].url.empty());
  CHECK(ip2p::triplet_to_json(triplets[1]) == R"({"caption":"a","edit":"b","output":"c","url":"u"})");
  CHECK(ip2p::triplet_to_json(triplets[0], ip2p::TripletKeys::released) == R"({"input":"a","edit":"b","output":"c"})");
  CHECK(ip2p::triplet_to_json({"\xff", "\n", "\u00e9", ""}) ==
        "{\"caption\":\"\ufffd\",\"edit\":\"\\n\",\"output\":\"\u00e9\"}");

  const auto error_of = [&](const std::string& line) {
    write(scratch / "bad.jsonl", "{\"input\": \"a\", \"edit\": \"b\", \"output\": \"c\"}\n" + line);
    try {
      ip2p::read_triplets(scratch / "bad.jsonl");
    } catch (const ip2p::Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK_THAT(error_of("{\"input\": \"a\""), Contains("bad.jsonl:2: expected a JSON object, found '{\"input\": \"a\"'"));
  CHECK_THAT(error_of("[1]"), Contains("bad.jsonl:2: expected a JSON object, found '[1]'"));
  CHECK_THAT(error_of(R"({"input": "a", "output": "c"})"),
             Contains(R"(:2: expected "edit" or "instruction", found none)"));
  CHECK_THAT(error_of(R"({"input": 3, "edit": "b", "output": "c"})"),
             Contains(R"("input": expected a text, found number)"));
  CHECK_THROWS_WITH(ip2p::read_triplets(scratch / "none.jsonl"), Contains("none.jsonl'"));
}

TEST_CASE("The human-written set can be read, and its own completions parse", "[language][data]") {
  const auto data = ip2p::testing::shared_data();
  if (!data) {
    WARN("skipped: human-written-prompts.jsonl is not here; set IP2P_TEST_DATA");
    return;
  }
  const auto triplets = ip2p::read_triplets(*data / "human-written-prompts.jsonl");
  REQUIRE(triplets.size() == 700);
  const ip2p::TripletFormat format;
  std::size_t parsed = 0, unchanged = 0;
  for (const auto& triplet : triplets) {
    auto text = format.completion(triplet);
    text.resize(text.size() - format.end.size());
    const auto [again, why] = parse_triplet(triplet.caption, text);
    if (again) {
      ++parsed;
      CHECK(again->instruction == triplet.instruction);
      CHECK(again->edited == triplet.edited);
    } else if (why == TripletRejection::unchanged) {
      ++unchanged;
    }
  }
  CHECK(parsed + unchanged == 700);
  CHECK(parsed >= 690);
}

TEST_CASE("Captions are read from plain lines and from JSON lines", "[language]") {
  const ScratchDir scratch;
  write(scratch / "captions.txt", " a cat \n\nb\r\n{\"text\": \"c\", \"url\": \"u\"}\n{\"input\": \" d \"}");
  const auto read = ip2p::read_captions(scratch / "captions.txt");
  REQUIRE(read.size() == 4);
  CHECK(read[0].caption == "a cat");
  CHECK(read[1].caption == "b");
  CHECK(read[2].url == "u");
  CHECK(read[3].caption == " d ");
  write(scratch / "captions.txt", "{\"title\": \"c\"}");
  CHECK_THROWS_WITH(ip2p::read_captions(scratch / "captions.txt"),
                    Contains(R"(:1: expected "caption" or "input" or "text", found none)"));
}

TEST_CASE("BlockedWords withholds words, not parts of words", "[language]") {
  const ip2p::BlockedWords blocked({"Blood", "ha\u00dflich", "very bad"});
  const auto allows = [&](const std::string& instruction, const std::string& edited) {
    return blocked.allows({"blood", instruction, edited, ""});
  };
  CHECK(allows("make it red", "bloodhound"));
  CHECK_FALSE(allows("add BLOOD.", "x"));
  CHECK_FALSE(allows("x", "blood-red"));
  CHECK_FALSE(allows("HA\u00dfLICH", "x"));
  CHECK_FALSE(allows("a very, bad thing", "x"));
  CHECK(allows("very", "bad"));  // two texts, not one
  CHECK_THROWS_WITH(ip2p::BlockedWords({"!"}), "blocked words: expected letters or digits, found '!'");
}

TEST_CASE("generate_triplets writes what parses and counts what does not", "[language]") {
  const ScratchDir scratch;
  Scripted model;
  std::vector<std::int64_t> progress;
  const auto all = captions();
  const auto counts = ip2p::generate_triplets(
      model, all, scratch / "out.jsonl",
      {.batch = 4, .on_batch = [&](std::int64_t done, std::int64_t total) { progress.push_back(100 * done + total); }});
  CHECK(read(scratch / "out.jsonl") ==
        "{\"caption\":\"cat\",\"edit\":\"make it blue\",\"output\":\"blue cat\",\"url\":\"u/1\"}\n"
        "{\"caption\":\"late\",\"edit\":\"make it blue\",\"output\":\"blue late\"}\n"
        "{\"caption\":\"blank\",\"edit\":\"make it blue\",\"output\":\"blue blank\"}\n"
        "{\"caption\":\"sofa\",\"edit\":\"make it blue\",\"output\":\"blue sofa\"}\n"
        "{\"caption\":\"withheld\",\"edit\":\"make it blue\",\"output\":\"blue withheld\"}\n"
        "{\"caption\":\"last\",\"edit\":\"make it blue\",\"output\":\"blue last\",\"url\":\"u/3\"}\n");
  CHECK(progress == std::vector<std::int64_t>{410, 810, 1010});
  CHECK(counts.captions == 10);
  CHECK(counts.duplicate_captions == 2);
  CHECK(counts.duplicate_urls == 1);
  CHECK(counts.written == 6);
  CHECK(counts.given_up == 1);
  CHECK(counts.samples == 16);  // cat, sofa, last 1 each; mute, blank 4; late 3; withheld 2
  CHECK(counts.of(TripletRejection::no_delimiter) == 4);
  CHECK(counts.of(TripletRejection::several_delimiters) == 1);
  CHECK(counts.of(TripletRejection::unchanged) == 1);
  CHECK(counts.of(TripletRejection::empty) == 3);
  CHECK(counts.of(TripletRejection::moderated) == 1);
  CHECK(counts.to_json() == ip2p::TripletCounts::from_json(counts.to_json()).to_json());
  // Try t of caption i is sample 4 i + t.
  CHECK(model.samples == std::vector<std::uint64_t>{0, 4, 8, 5, 9, 6, 10, 7, 20, 24, 21, 22, 23, 32, 36, 33});

  Scripted moderated;
  const auto fewer =
      ip2p::generate_triplets(moderated, all, scratch / "moderated.jsonl", {.tries = 4}, ip2p::BlockedWords({"sofa"}));
  CHECK(fewer.written == 5);
  CHECK(fewer.of(TripletRejection::moderated) == 5);
}

TEST_CASE("generate_triplets ends with the same bytes wherever it was killed and resumed", "[language]") {
  const ScratchDir scratch;
  const auto all = captions();
  Scripted whole;
  const auto expected = ip2p::generate_triplets(whole, all, scratch / "whole.jsonl", {.batch = 3});
  const auto output = read(scratch / "whole.jsonl");
  const auto journal = read(scratch / "whole.jsonl.journal");

  for (std::int64_t fail_at = 0; fail_at < whole.calls; ++fail_at) {
    Scripted broken{.fail_at = fail_at};
    CHECK_THROWS_WITH(ip2p::generate_triplets(broken, all, scratch / "out.jsonl", {.batch = 3}), "the service is gone");
    Scripted mended;
    const auto counts = ip2p::generate_triplets(mended, all, scratch / "out.jsonl", {.batch = 3});
    CHECK(counts.to_json() == expected.to_json());
    CHECK(read(scratch / "out.jsonl") == output);
    CHECK(read(scratch / "out.jsonl.journal") == journal);
    CHECK(broken.calls + mended.calls <= whole.calls + 4);  // complete batches are not requested again
    std::filesystem::remove(scratch / "out.jsonl");
    std::filesystem::remove(scratch / "out.jsonl.journal");
  }
  // A kill leaves any part of the journal's last line, and any part of the output that the journal does not yet
  // mention.
  for (std::size_t cut = 0; cut < journal.size(); cut += 23) {
    write(scratch / "out.jsonl", cut < journal.find('\n') ? "" : output);
    write(scratch / "out.jsonl.journal", journal.substr(0, cut));
    Scripted model;
    const auto counts = ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 3});
    CHECK(counts.to_json() == expected.to_json());
    CHECK(read(scratch / "out.jsonl") == output);
    CHECK(read(scratch / "out.jsonl.journal") == journal);
  }
}

TEST_CASE("TripletJournal: one process at a time writes an output", "[language]") {
  using ip2p::detail::TripletJournal;
  const ScratchDir scratch;
  const auto out = scratch / "out.jsonl";
  TripletJournal early(out, {{"seed", 1}});
  {
    TripletJournal first(out, {{"seed", 1}});
    first.finish("a line\n", 1);
    CHECK_THROWS_WITH(TripletJournal(out, {{"seed", 1}}), Contains("out.jsonl.journal: expected no other process"));
  }
  // What was written since it looked is not its own to go on from.
  CHECK_THROWS_WITH(early.finish("another\n", 1), Contains("out.jsonl.journal: expected no other process"));
  CHECK(read(out) == "a line\n");
  CHECK(TripletJournal(out, {{"seed", 1}}).next() == 1);
}

TEST_CASE("generate_triplets does not mix runs", "[language]") {
  const ScratchDir scratch;
  Scripted model;
  const auto all = captions();
  ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 3});
  const auto output = read(scratch / "out.jsonl");
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 4}),
                    Contains("out.jsonl.journal: belongs to a run with other captions, model or settings"));
  auto other = all;
  other[0].caption = "kitten";
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, other, scratch / "out.jsonl", {.batch = 3}),
                    Contains("belongs to a run with other captions"));
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 3, .model = "another"}),
                    Contains("belongs to a run with other captions"));
  CHECK(read(scratch / "out.jsonl") == output);
  // A whole line that is none of a run's, after the settings; the last is a unit that is not the next.
  const auto journal = read(scratch / "out.jsonl.journal");
  const auto head = journal.substr(0, journal.find('\n') + 1);
  for (const auto& line : std::vector<nlohmann::json>{{{"point", "input"}},
                                                      {{"unit", 0}, {"bytes", "many"}, {"counts", {}}},
                                                      {{"unit", 0}, {"bytes", -1}, {"counts", {}}},
                                                      {{"unit", INT64_MAX}, {"bytes", 1}, {"counts", {}}}}) {
    write(scratch / "out.jsonl.journal", head + ip2p::detail::sealed_line(line));
    CHECK_THROWS_WITH(
        ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 3}),
        Contains("out.jsonl.journal: after byte") && Contains("expected unit 0 with the bytes and counts"));
  }
  write(scratch / "out.jsonl.journal", journal);
  CHECK(read(scratch / "out.jsonl") == output);
  write(scratch / "out.jsonl", output.substr(0, 10));
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "out.jsonl", {.batch = 3}),
                    Contains("found 10") && Contains("out.jsonl: expected at least"));
  write(scratch / "mine.jsonl", "precious\n");
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "mine.jsonl", {}),
                    Contains("mine.jsonl: exists, but its journal"));
  CHECK(read(scratch / "mine.jsonl") == "precious\n");
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "no" / "out.jsonl", {}),
                    Contains("there is no folder"));
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "x.jsonl", {.tries = 0}),
                    "triplets: tries: expected at least 1, found 0");
  CHECK_THROWS_WITH(ip2p::generate_triplets(model, all, scratch / "x.jsonl", {.batch = 0}),
                    "triplets: batch: expected at least 1, found 0");
}
