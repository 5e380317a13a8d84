#include "runner.hpp"

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "events.hpp"
#include "fake_editor.hpp"
#include "ip2p/io/image.hpp"
#include "job_store.hpp"
#include "support/catch.hpp"

namespace {

using namespace std::chrono_literals;

std::shared_ptr<studio::Job> a_job(const FakeEditor& editor, const std::string& client, const std::string& instruction,
                                   std::uint64_t seed = 1, const std::string& photo = "photo", std::int64_t count = 1,
                                   std::int64_t preview_every = 0) {
  studio::EditRequest request{.instruction = instruction,
                              .text_scale = 7.5,
                              .image_scale = 1.5,
                              .steps = 3,
                              .seed = seed,
                              .sampler = "euler",
                              .count = count,
                              .preview_every = preview_every};
  return std::make_shared<studio::Job>(studio::JobStore::new_id(), client, request,
                                       editor.read(photo, {}, studio::MaskForm::brightness, false));
}

studio::Standing end_of(const studio::Job& job) {
  auto standing = job.standing();
  for (int i = 0; i < 100 && !standing.over(); ++i) standing = job.standing(standing.version, 100ms);
  REQUIRE(standing.over());
  return standing;
}

ip2p::Image picture_of(const studio::Result& result) {
  return ip2p::decode_image(std::as_bytes(std::span(result.png)), "result");
}

/// Counts how often each job was said to be over.
struct Ends {
  std::mutex mutex;
  std::vector<std::string> ids;
  /// So many were, within a few seconds: who waits for a job may know of its end before this does.
  std::size_t count(std::size_t wanted) {
    for (int i = 0; i < 5000; ++i) {
      {
        const std::scoped_lock lock(mutex);
        if (ids.size() >= wanted) return ids.size();
      }
      std::this_thread::sleep_for(1ms);
    }
    return 0;
  }
  studio::RunnerEvents events() {
    return {.over = [this](const studio::Job& job) {
      const std::scoped_lock lock(mutex);
      ids.push_back(job.id);
    }};
  }
};

}  // namespace

TEST_CASE("Jobs that allow it are computed together, and each gets its own picture", "[studio]") {
  FakeEditor editor;
  Ends ends;
  studio::Runner runner(editor, {}, 4, ends.events());
  const auto first = a_job(editor, "a", "first");
  runner.submit(first);
  editor.batches(1);  // it runs alone; the others come meanwhile
  std::vector<std::shared_ptr<studio::Job>> jobs{a_job(editor, "a", "x", 2), a_job(editor, "b", "yy", 3),
                                                 a_job(editor, "a", "zzz", 4, "another size"),
                                                 a_job(editor, "c", "uuuu", 5)};
  for (const auto& job : jobs) runner.submit(job);
  CHECK(runner.waiting() == 4);
  CHECK(runner.position(jobs[0]->id) == 0);
  editor.allow_all();
  for (const auto& job : jobs) {
    const auto end = end_of(*job);
    CHECK(end.state == studio::State::done);
    CHECK(end.step == 3);
    CHECK(picture_of(*end.results.front()) ==
          FakeEditor::picture_of({job->photograph(), &job->request, job->cells[0]}));
  }
  CHECK(editor.batches(3) == std::vector<std::vector<std::string>>{{"first"}, {"x", "yy", "uuuu"}, {"zzz"}});
  CHECK(ends.count(5) == 5);
}

TEST_CASE("A job with many results does not keep others waiting", "[studio]") {
  FakeEditor editor;
  studio::Runner runner(editor, {}, 1, {});
  const auto large = a_job(editor, "a", "large", 1, "photo", 4);
  runner.submit(large);
  editor.batches(1);
  const auto small = a_job(editor, "b", "small");
  runner.submit(small);
  editor.allow_all();
  end_of(*large);
  CHECK(editor.batches(5)[1] == std::vector<std::string>{"large"});  // a's turn had come before b was there
  CHECK(editor.batches(5)[2] == std::vector<std::string>{"small"});
  CHECK(end_of(*small).state == studio::State::done);
}

TEST_CASE("What fails in a batch fails alone", "[studio]") {
  FakeEditor editor;
  Ends ends;
  studio::Runner runner(editor, {}, 8, ends.events());
  const auto first = a_job(editor, "a", "first");
  runner.submit(first);
  editor.batches(1);
  std::vector<std::shared_ptr<studio::Job>> jobs;
  for (const char* words : {"one", "explode", "two", "overflow", "three"}) {
    jobs.push_back(a_job(editor, "a", words));
    runner.submit(jobs.back());
  }
  editor.allow_all();
  for (const auto& job : jobs) {
    const auto end = end_of(*job);
    const bool blamed = job->request.instruction == "explode";
    INFO(job->request.instruction);
    CHECK(end.state == (blamed ? studio::State::failed : studio::State::done));
    if (blamed) CHECK_THAT(end.fault->what(), Contains("NaN"));
  }
  CHECK(ends.count(6) == 6);
}

TEST_CASE("A cancelled job leaves the batch at the next step, and one that waits leaves the queue", "[studio]") {
  FakeEditor editor;
  Ends ends;
  studio::Runner runner(editor, {}, 4, ends.events());
  const auto first = a_job(editor, "a", "first");
  runner.submit(first);
  editor.batches(1);
  const auto stays = a_job(editor, "a", "stays"), leaves = a_job(editor, "b", "leaves"),
             waits = a_job(editor, "c", "waits", 1, "another size");
  for (const auto& job : {stays, leaves, waits}) runner.submit(job);
  editor.allow(3);
  editor.batches(2);
  const int before = editor.rows_evaluated;
  editor.allow(1);
  while (leaves->standing().step < 1) std::this_thread::sleep_for(1ms);
  runner.cancel(*leaves);
  runner.cancel(*leaves);
  runner.cancel(*waits);
  CHECK(runner.position(waits->id) == 0);
  CHECK(runner.waiting() == 0);
  editor.allow_all();
  CHECK(end_of(*stays).state == studio::State::done);
  CHECK(end_of(*leaves).state == studio::State::cancelled);
  CHECK(end_of(*waits).state == studio::State::cancelled);
  CHECK(editor.rows_evaluated - before == 3 + 1);
  CHECK(ends.count(4) == 4);
  CHECK(leaves->photograph() == nullptr);
}

TEST_CASE("A stop finishes what runs and refuses the rest; an abort ends it", "[studio]") {
  FakeEditor editor;
  studio::Runner runner(editor, {}, 1, {});
  const auto runs = a_job(editor, "a", "runs", 1, "photo", 2), waits = a_job(editor, "b", "waits");
  runner.submit(runs);
  editor.batches(1);
  runner.submit(waits);
  runner.stop();
  CHECK(end_of(*waits).fault->code() == "stopping");
  CHECK_THROWS_AS(runner.submit(a_job(editor, "c", "late")), studio::Fault);
  CHECK_FALSE(runner.finished());
  SECTION("all of a job that runs is finished") {
    editor.allow_all();
    CHECK(end_of(*runs).state == studio::State::done);
  }
  SECTION("unless it is aborted") {
    runner.abort();
    editor.allow_all();
    CHECK(end_of(*runs).state == studio::State::cancelled);
  }
  for (int i = 0; i < 1000 && !runner.finished(); ++i) std::this_thread::sleep_for(1ms);
  CHECK(runner.finished());
}

TEST_CASE("A full queue refuses with 429", "[studio]") {
  FakeEditor editor;
  studio::Limits limits;
  limits.queue = 2;
  limits.jobs = 1;
  studio::Runner runner(editor, limits, 1, {});
  const auto first = a_job(editor, "a", "first");
  runner.submit(first);
  editor.batches(1);
  const auto status = [&](const std::string& client) {
    try {
      runner.submit(a_job(editor, client, "x"));
    } catch (const studio::Fault& fault) {
      return fault.status();
    }
    return 202;
  };
  CHECK(status("a") == 202);
  CHECK(status("a") == 429);
  CHECK(status("b") == 202);
  CHECK(status("c") == 429);
  editor.allow_all();
}

TEST_CASE("Who follows a job hears of every result and of its end, however late", "[studio]") {
  FakeEditor editor;
  studio::Runner runner(editor, {}, 4, {});
  const auto job = a_job(editor, "a", "x", 1, "photo", 2, 1);
  studio::PageEvents early(job, [&](const std::string& id) { return runner.position(id); });
  CHECK_THAT(*early.next(0ms), Contains("event: state"));
  runner.submit(job);
  editor.allow(1);
  std::string heard;
  while (heard.find("event: preview") == heard.npos) heard += *early.next(100ms);
  CHECK_THAT(heard, Contains("\"state\":\"running\""));
  CHECK_THAT(heard, Contains("event: progress"));
  CHECK_THAT(heard, Contains("data:image/jpeg;base64,"));
  editor.allow_all();
  end_of(*job);
  for (auto text = early.next(0ms); text; text = early.next(0ms)) heard += *text;
  studio::PageEvents late(job, [](const std::string&) { return 0; });
  const auto all = *late.next(0ms);
  CHECK_FALSE(late.next(0ms));
  for (const auto& text : {heard, all}) {
    std::size_t results = 0;
    for (auto place = text.find("event: result"); place != text.npos; place = text.find("event: result", place + 1)) {
      ++results;
    }
    CHECK(results == 2);
    CHECK_THAT(text, Contains("event: done\ndata: {"));
  }
}

TEST_CASE("What is over expires, by time and by memory, and what is not stays", "[studio]") {
  FakeEditor editor;
  studio::JobStore store(1000, 600);
  const auto add = [&](std::size_t bytes, bool over) {
    auto job = a_job(editor, "a", "x", 1, "p");
    if (over) job->finish(0, {.png = std::string(bytes, 'x')});
    store.add(job);
    return job;
  };
  const auto running = add(0, false), old = add(400, true), recent = add(400, true);
  store.sweep();
  CHECK(store.find(old->id) == old);
  CHECK(store.make_room(500));
  CHECK(store.find(old->id) == nullptr);
  CHECK(store.find(recent->id) == recent);
  CHECK(store.find(running->id) == running);
  CHECK_FALSE(store.make_room(1001));
  store.sweep(studio::Clock::now() + 601s);
  CHECK(store.find(recent->id) == nullptr);
  CHECK(store.find(running->id) == running);
  CHECK(studio::JobStore::new_id() != studio::JobStore::new_id());
}
