#include "service.hpp"

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "access.hpp"
#include "base64.hpp"
#include "fake_editor.hpp"
#include "page.hpp"
#include "support/catch.hpp"

namespace {

using Json = nlohmann::json;

studio::Request request_of(const std::string& method, const std::string& path) {
  return {.method = method, .path = path, .address = "127.0.0.1", .headers = {{"Host", "localhost:8100"}}};
}

/// A service with a fake editor, and what it logs.
struct Bench {
  explicit Bench(studio::ServiceOptions options = {})
      : service(editor, std::move(options), [this](const std::string& line) {
          const std::scoped_lock lock(mutex);
          log += line + "\n";
        }) {}

  /// As the HTTP layer does it.
  studio::Response ask(studio::Request request, const std::vector<std::pair<std::string, std::string>>& fields = {},
                       const std::string& body = {}) {
    if (!fields.empty()) request.headers.emplace("Content-Type", "multipart/form-data; boundary=x");
    try {
      const auto rule = service.begin(request);
      request.form = studio::Form(rule.fields);
      for (const auto& [name, value] : fields) {
        request.form.begin(name);
        request.form.add(value);
      }
      request.form.finish();
      request.body = body;
    } catch (const studio::Fault& fault) {
      return studio::Service::refusal(fault);
    }
    return service.answer_or_fault(request);
  }

  Json json(const studio::Response& response) { return Json::parse(response.body); }

  std::string log_text() {
    const std::scoped_lock lock(mutex);
    return log;
  }

  std::mutex mutex;
  std::string log;
  FakeEditor editor;
  studio::Service service;
};

const std::vector<std::pair<std::string, std::string>> snowy{{"image", "photo"},
                                                             {"settings", R"({"instruction": "a secret wish"})"}};

}  // namespace

TEST_CASE("A job goes from its request to its picture", "[studio]") {
  Bench bench;
  const auto accepted = bench.ask(request_of("POST", "/api/jobs"), snowy);
  REQUIRE(accepted.status == 202);
  const auto id = bench.json(accepted)["id"].get<std::string>();
  bench.editor.batches(1);
  CHECK(bench.json(bench.ask(request_of("GET", "/api/jobs/" + id)))["state"] == "running");
  CHECK(bench.ask(request_of("GET", "/api/jobs/" + id + "/results/0")).status == 404);
  bench.editor.allow_all();
  auto events = bench.ask(request_of("GET", "/api/jobs/" + id + "/events"));
  CHECK(events.type == "text/event-stream");
  CHECK(bench.service.followed());
  std::string heard;
  while (const auto text = events.next()) heard += *text;
  events.closed(true);
  CHECK_FALSE(bench.service.followed());
  CHECK_THAT(heard, Contains("event: done"));
  const auto job = bench.json(bench.ask(request_of("GET", "/api/jobs/" + id)));
  CHECK(job["state"] == "done");
  CHECK(job["results"][0]["seed"] == 42);
  const auto picture = bench.ask(request_of("GET", job["results"][0]["url"]));
  REQUIRE(picture.shared_body);
  CHECK(picture.shared_body->starts_with("\x89PNG"));
  const auto settings = bench.ask(request_of("POST", "/api/settings"), {}, *picture.shared_body);
  CHECK(settings.status == 200);
  CHECK(bench.ask(request_of("GET", "/api/jobs/" + id + "/results/1")).status == 404);
  CHECK(bench.ask(request_of("DELETE", "/api/jobs/" + id)).status == 200);
  CHECK(bench.json(bench.ask(request_of("GET", "/api/jobs/" + id)))["state"] == "done");
  const auto metrics = bench.ask(request_of("GET", "/metrics")).body;
  CHECK_THAT(metrics, Contains("studio_jobs_total{state=\"done\"} 1"));
  CHECK_THAT(metrics, Contains("studio_results_total 1"));
}

TEST_CASE("The log tells what happened, and prompts only where it is asked to", "[studio]") {
  const bool with_prompts = GENERATE(false, true);
  Bench bench({.log_prompts = with_prompts});
  bench.editor.allow_all();
  const auto id = bench.json(bench.ask(request_of("POST", "/api/jobs"), snowy))["id"].get<std::string>();
  auto events = bench.ask(request_of("GET", "/api/jobs/" + id + "/events"));
  while (events.next()) {
  }
  bench.service.record(request_of("GET", "/api/jobs/" + id), 200, 10, 0.5);
  for (int i = 0; i < 1000 && bench.log_text().find("\"job\"") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const auto log = bench.log_text();
  CHECK((log.find("a secret wish") != log.npos) == with_prompts);
  CHECK(log.find(id) == log.npos);  // who reads the log cannot fetch the pictures
  CHECK_THAT(log, Contains(id.substr(0, 8)));
  for (std::size_t begin = 0; begin < log.size();) {
    const auto end = log.find('\n', begin);
    CHECK(Json::parse(log.substr(begin, end - begin)).contains("event"));
    begin = end + 1;
  }
}

TEST_CASE("Only the service's own pages and this machine's programs are answered", "[studio]") {
  Bench bench({.hosts = {"pictures.example", "127.0.0.1"}});
  const auto status = [&](const std::vector<std::pair<std::string, std::string>>& headers) {
    auto request = request_of("GET", "/api/model");
    request.headers.clear();
    for (const auto& [name, value] : headers) request.headers.emplace(name, value);
    return bench.ask(request).status;
  };
  CHECK(status({{"Host", "localhost:8100"}}) == 200);
  CHECK(status({{"Host", "LOCALHOST"}}) == 200);
  CHECK(status({{"Host", "[::1]:8100"}}) == 200);
  CHECK(status({{"Host", "pictures.example"}}) == 200);
  CHECK(status({{"Host", "evil.example:8100"}}) == 403);
  CHECK(status({{"Host", "localhost.evil.example"}}) == 403);
  CHECK(status({{"Host", ""}}) == 403);
  CHECK(status({{"Host", "["}}) == 403);
  CHECK(status({}) == 400);
  CHECK(status({{"Host", "localhost"}, {"Host", "localhost"}}) == 400);
  CHECK(status({{"Host", "localhost:8100"}, {"Origin", "http://localhost:8100"}}) == 200);
  CHECK(status({{"Host", "localhost:8100"}, {"Origin", "http://localhost:9000"}}) == 403);
  CHECK(status({{"Host", "localhost:8100"}, {"Origin", "http://evil.example"}}) == 403);
  CHECK(status({{"Host", "localhost:8100"}, {"Origin", "null"}}) == 403);
}

TEST_CASE("A token is asked for where there is one", "[studio]") {
  Bench bench({.token = "long enough"});
  const auto status = [&](const std::string& path, const std::string& authorization) {
    auto request = request_of("GET", path);
    if (!authorization.empty()) request.headers.emplace("Authorization", authorization);
    return bench.ask(request).status;
  };
  CHECK(status("/api/model", "Bearer long enough") == 200);
  CHECK(status("/api/model", "bearer long enough") == 200);
  CHECK(status("/api/model", "Bearer long enougH") == 401);
  CHECK(status("/api/model", "Bearer long enough ") == 401);
  CHECK(status("/api/model", "Bearer ") == 401);
  CHECK(status("/api/model", "Basic long enough") == 401);
  CHECK(status("/api/model", "") == 401);
  CHECK(status("/nowhere", "") == 401);  // nor which paths there are
  CHECK(status("/", "") == 200);
  CHECK(status("/healthz", "") == 200);
  CHECK(studio::equal_in_constant_time("", ""));
  CHECK_FALSE(studio::equal_in_constant_time("a", "ab"));
}

TEST_CASE("What cannot be answered is refused in one shape", "[studio]") {
  studio::ServiceOptions options;
  options.limits.bytes = 1000;
  Bench bench(options);
  const auto code = [&](const studio::Response& response) {
    const auto error = bench.json(response)["error"];
    CHECK(error["message"].get<std::string>().size() > 5);
    return std::to_string(response.status) + " " + error["code"].get<std::string>();
  };
  CHECK(code(bench.ask(request_of("GET", "/nowhere"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/../../etc/passwd"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/api/jobs/../../etc/passwd"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/api/jobs/" + std::string(32, 'a')))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/api/jobs/" + std::string(31, 'a') + "/"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/api/jobs/" + std::string(32, 'a') + "/results/x"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("GET", "/v1/models/gpt"))) == "404 not_found");
  CHECK(code(bench.ask(request_of("PUT", "/api/jobs"))) == "405 wrong_method");
  CHECK(code(bench.ask(request_of("POST", "/api/model"))) == "405 wrong_method");
  CHECK(code(bench.ask(request_of("POST", "/api/jobs"))) == "400 wrong_value");  // no form
  CHECK(code(bench.ask(request_of("POST", "/api/jobs"), {{"image", "x"}})) == "400 missing_field");
  CHECK(code(bench.ask(request_of("POST", "/api/jobs"), {{"picture", "x"}})) == "400 unknown_field");
  CHECK(code(bench.ask(request_of("POST", "/api/jobs"), {{"image", std::string(1001, 'x')}})) == "413 too_large");
  CHECK(code(bench.ask(request_of("POST", "/api/jobs"), {{"image", "bad"}, snowy[1]})) == "400 not_a_picture");
  CHECK(code(bench.ask(request_of("POST", "/api/settings"), {}, "nothing")) == "422 not_a_picture");
  auto large = request_of("POST", "/api/settings");
  large.headers.emplace("Content-Length", "99999999999999999999999999");
  CHECK(code(bench.ask(large)) == "413 too_large");
  auto named = request_of("POST", "/api/jobs");
  named.headers.emplace("X-Client", "a b");
  CHECK(code(bench.ask(named, snowy)) == "400 wrong_value");
}

TEST_CASE("The page allows itself, and nothing from elsewhere", "[studio]") {
  Bench bench;
  const auto page = bench.ask(request_of("GET", "/"));
  CHECK(page.status == 200);
  CHECK(page.body.find("<!-- studio.") == std::string::npos);
  CHECK_THAT(page.body, Contains("<style>"));
  CHECK_THAT(page.body, Contains("<script type=\"module\">"));
  for (const char* part : {"default-src 'none'", "style-src 'sha256-", "script-src 'sha256-"}) {
    CHECK_THAT(page.headers.front().second, Contains(part));
  }
  // echo -n 'body {}' | openssl dgst -sha256 -binary | base64
  const std::string sum = "'sha256-YjaKGiklmzC6wjXA513HAMmzus8VE61XCOT+SmwNZWA='";
  const auto policy = studio::policy_of("<style>body {}</style><script type=\"module\">body {}</script>");
  CHECK_THAT(policy, Contains("style-src " + sum));
  CHECK_THAT(policy, Contains("script-src " + sum));
  CHECK(bench.ask(request_of("GET", "/api/openapi.yaml")).body.starts_with("openapi: 3.1.0"));
}

TEST_CASE("Base64 is that of RFC 4648", "[studio]") {
  const std::vector<std::pair<std::string, std::string>> known{{"", ""},
                                                               {"f", "Zg=="},
                                                               {"fo", "Zm8="},
                                                               {"foo", "Zm9v"},
                                                               {"foob", "Zm9vYg=="},
                                                               {"fooba", "Zm9vYmE="},
                                                               {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, encoded] : known) CHECK(studio::base64(text) == encoded);
}

TEST_CASE("An edit in OpenAI's form is answered with its pictures, or event by event", "[studio]") {
  Bench bench;
  bench.editor.allow_all();
  const auto whole = bench.json(bench.ask(request_of("POST", "/v1/images/edits"),
                                          {{"image", "photo"}, {"prompt", "p"}, {"n", "2"}, {"seed", "5"}}));
  REQUIRE(whole["data"].size() == 2);
  CHECK(whole["data"][0]["b64_json"].get<std::string>().starts_with("iVBORw0KGgo"));
  CHECK(whole["data"][0] != whole["data"][1]);
  CHECK(whole["usage"]["input_tokens"] == 1);
  auto events = bench.ask(request_of("POST", "/v1/images/edits"),
                          {{"image", "photo"}, {"prompt", "p"}, {"stream", "true"}, {"partial_images", "2"}});
  std::string heard;
  while (const auto text = events.next()) heard += *text;
  CHECK_THAT(heard, Contains("event: image_edit.completed"));
  const auto failed = bench.ask(request_of("POST", "/v1/images/edits"), {{"image", "photo"}, {"prompt", "explode"}});
  CHECK(failed.status == 500);
  CHECK_THAT(failed.body, Contains("NaN"));
}

TEST_CASE("Who goes away ends the edit that waits for them", "[studio]") {
  Bench bench;
  auto request = request_of("POST", "/v1/images/edits");
  request.gone = [] { return true; };
  const auto response = bench.ask(request, {{"image", "photo"}, {"prompt", "p"}});
  CHECK(response.status == 503);
  bench.editor.allow_all();
  auto events =
      bench.ask(request_of("POST", "/v1/images/edits"), {{"image", "photo"}, {"prompt", "p"}, {"stream", "true"}});
  events.closed(false);
  CHECK_THAT(bench.ask(request_of("GET", "/metrics")).body, Contains("studio_jobs_total{state=\"cancelled\"}"));
}
