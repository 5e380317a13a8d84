#include "ip2p/language/completions_client.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/testing/check_language_model.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace {

/// Fails with an error that no retry helps against.
struct RefusingTransport {
  std::string words;
  ip2p::HttpResponse post(const ip2p::HttpRequest&) const { throw ip2p::Error(words); }
};

}  // namespace

TEST_CASE("CompletionsClient puts the address before what a transport says, whatever that is", "[language]") {
  setenv("IP2P_TEST_KEY", "sk-test-0123", 1);
  const std::string url = "http://127.0.0.1:1/v1";
  for (const std::string words :
       {"no route", "http://127.0.0.1:1/v1/completions moved", "the key sk-test-0123 is old"}) {
    const ip2p::CompletionsClient client({.url = url, .key_variable = "IP2P_TEST_KEY"}, RefusingTransport{words});
    const std::vector<ip2p::CompletionRequest> one{{"x", 0}};
    auto expected = url + "/completions: " + words;
    if (words.starts_with("the key")) expected = url + "/completions: the key [key] is old";
    CHECK_THROWS_WITH(client.complete(one, {}), expected);
  }
}

namespace {

/// Answers every request with one body.
struct SameBody {
  std::string body;
  ip2p::HttpResponse post(const ip2p::HttpRequest&) const { return {200, body}; }
};

}  // namespace

TEST_CASE("CompletionsClient takes no count of tokens that is not a whole number", "[language]") {
  const auto tokens = [](const std::string& count) {
    const auto body = R"({"choices": [{"text": "x"}], "usage": {"completion_tokens": )" + count + "}}";
    const std::vector<ip2p::CompletionRequest> one{{"x", 0}};
    return ip2p::CompletionsClient({.key_variable = ""}, SameBody{body}).complete(one, {}).at(0).tokens;
  };
  CHECK(tokens("3") == 3);
  CHECK(tokens("1e300") == 0);
  CHECK(tokens("null") == 0);
}

#if IP2P_HAS_CURL

namespace {

using Client = ip2p::CompletionsClient<>;
using ip2p::CompletionOptions;
using ip2p::CompletionRequest;
using ip2p::CompletionsClientOptions;
using ip2p::FinishReason;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* key = "sk-test-0123456789abcdef";

/// tests/language/misbehaving_server.py as a process of its own, ended with the test program.
class Server {
 public:
  Server() {
    int to_child[2], from_child[2];
    REQUIRE(pipe(to_child) == 0);
    REQUIRE(pipe(from_child) == 0);
    child_ = fork();
    REQUIRE(child_ >= 0);
    const auto script = ip2p::testing::fixture("language/misbehaving_server.py").string();
    if (child_ == 0) {
      dup2(to_child[0], 0);
      dup2(from_child[1], 1);
      for (const int end : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(end);
      execlp("python3", "python3", script.c_str(), nullptr);
      _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    input_ = to_child[1];
    auto* stream = fdopen(from_child[0], "r");
    const auto found = fscanf(stream, "%d", &port_);
    fclose(stream);
    REQUIRE(found == 1);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    close(input_);  // the server runs until then
    waitpid(child_, nullptr, 0);
  }

  [[nodiscard]] std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  pid_t child_ = -1;
  int input_ = -1, port_ = 0;
};

const Server& server() {
  static const Server one;
  return one;
}

/// A fresh run of one behaviour.
struct Run {
  explicit Run(const std::string& behaviour) : name(std::to_string(++count)) {
    setenv("IP2P_TEST_KEY", key, 1);
    options.url = server().address() + "/" + behaviour + "/" + name + "/v1";
    options.model = "davinci";
    options.key_variable = "IP2P_TEST_KEY";
    options.first_wait = 0.02;
    options.tries = 3;
    options.total_seconds = 20;
  }

  [[nodiscard]] json log() const {
    return json::parse(ip2p::CurlTransport{}.post({.url = server().address() + "/log/" + name, .body = "{}"}).body);
  }

  std::vector<ip2p::Completion> complete(const std::vector<std::string>& prompts, CompletionOptions sampling = {}) {
    const Client client(options);
    std::vector<CompletionRequest> requests;
    for (const auto& prompt : prompts) requests.push_back({prompt, requests.size()});
    const auto begin = Clock::now();
    const auto note = [&] {
      seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      counts = client.counts();
    };
    try {
      auto result = client.complete(requests, sampling);
      note();
      return result;
    } catch (...) {
      note();
      throw;
    }
  }

  /// The message of the failure, which must never contain the key.
  std::string error(CompletionOptions sampling = {}) {
    try {
      complete({"x"}, std::move(sampling));
    } catch (const ip2p::Error& problem) {
      const std::string text = problem.what();
      CHECK(text.find(key) == std::string::npos);
      CHECK(text.find("0123456789") == std::string::npos);
      CHECK_THAT(text, Contains(options.url + "/completions: "));
      return text;
    }
    return "no error";
  }

  static inline int count = 0;
  std::string name;
  CompletionsClientOptions options;
  ip2p::CompletionsClientCounts counts;
  double seconds = 0;
};

}  // namespace

TEST_CASE("CompletionsClient sends requests as OpenAI's interface defines them", "[language]") {
  Run run("fine");
  const CompletionOptions sampling{.max_tokens = 7,
                                   .temperature = 0.7,
                                   .top_p = 0.9,
                                   .frequency_penalty = 0.1,
                                   .presence_penalty = 0.2,
                                   .stop = {"\nEND"},
                                   .seed = 3};
  const auto answers = run.complete({"one", "two \u00e9"}, sampling);
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].text == "echo one");
  CHECK(answers[1].text == "echo two \u00e9");
  CHECK(answers[0].finish == FinishReason::stop);
  CHECK(answers[0].tokens == 3);
  CHECK(run.counts.requests == 2);
  CHECK(run.counts.retries == 0);
  const auto log = run.log();
  REQUIRE(log.size() == 2);
  CHECK(log[0]["key"] == std::string("Bearer ") + key);
  const auto& body = log[0]["body"];
  CHECK(body["model"] == "davinci");
  CHECK(body["prompt"] == "one");
  CHECK(body["max_tokens"] == 7);
  CHECK(body["temperature"] == 0.7);
  CHECK(body["top_p"] == 0.9);
  CHECK(body["frequency_penalty"] == 0.1);
  CHECK(body["presence_penalty"] == 0.2);
  CHECK(body["stop"] == json{"\nEND"});
  CHECK(body["seed"].is_number_integer());
  CHECK(body["seed"] != log[1]["body"]["seed"]);

  Run again("fine");
  again.complete({"one", "two \u00e9"}, sampling);
  CHECK(again.log()[1]["body"] == log[1]["body"]);
}

TEST_CASE("CompletionsClient works with chat services, and with the ways in which services differ", "[language]") {
  Run run("fine");
  run.options.chat = true;
  run.options.system = "be brief";
  run.options.key_variable = "";
  run.options.extra = {{"max_tokens", nullptr}, {"max_completion_tokens", 9}};
  CHECK(run.complete({"one"})[0].text == "echo one");
  const auto log = run.log();
  CHECK(log[0]["path"].get<std::string>().ends_with("/v1/chat/completions"));
  CHECK(log[0]["key"] == "");
  CHECK(log[0]["body"]["messages"] ==
        json{{{"role", "system"}, {"content", "be brief"}}, {{"role", "user"}, {"content", "one"}}});
  CHECK_FALSE(log[0]["body"].contains("max_tokens"));
  CHECK_FALSE(log[0]["body"].contains("prompt"));
  CHECK(log[0]["body"]["max_completion_tokens"] == 9);

  CHECK(Run("stops").complete({"x"}, {.stop = {"\nEND"}})[0].text == "one\n%%\ntwo");
  CHECK(Run("long").complete({"x"})[0].finish == FinishReason::length);
  CHECK(Run("filtered").complete({"x"})[0].finish == FinishReason::filter);
}

TEST_CASE("CompletionsClient keeps the laws of language models", "[language]") {
  const Client client(Run("fine").options);
  ip2p::testing::check_language_model(client, {"a cat", "dogs", "\u00e9"});
}

TEST_CASE("CompletionsClient waits for as long as the service asks", "[language]") {
  Run busy("busy");
  CHECK(busy.complete({"x"})[0].text == "echo x");
  CHECK(busy.counts.requests == 3);
  CHECK(busy.counts.retries == 2);
  const auto log = busy.log();
  REQUIRE(log.size() == 3);
  for (const int i : {1, 2}) CHECK(log[i]["time"].get<double>() - log[i - 1]["time"].get<double>() >= 0.99);
  CHECK(busy.seconds < 10);

  Run dated("dated");  // an HTTP date, in whole seconds, so that up to one is lost
  CHECK(dated.complete({"x"})[0].text == "echo x");
  CHECK(dated.seconds >= 0.9);
  CHECK(dated.seconds < 10);

  Run patient("patient");
  CHECK_THAT(patient.error(), Contains("HTTP 429: come back tomorrow; it asks to wait 3600 s, expected at most 60 s"));
  CHECK(patient.counts.requests == 1);
  Run spent("spent");
  CHECK_THAT(spent.error(), Contains("HTTP 429: you have no money"));
  CHECK(spent.counts.requests == 1);
}

TEST_CASE("CompletionsClient retries after temporary faults, with waits that double", "[language]") {
  Run flaky("flaky");
  CHECK(flaky.complete({"x"})[0].text == "echo x");
  CHECK(flaky.counts.requests == 3);
  Run half("half");
  CHECK(half.complete({"x"})[0].text == "echo x");
  CHECK(half.counts.requests == 2);

  Run broken("broken");
  broken.options.tries = 5;
  broken.options.first_wait = 0.2;
  CHECK_THAT(broken.error(),
             Contains("gave up after 5 tries; the last: HTTP 500: the engine fell over with Bearer [key]"));
  CHECK(broken.counts.requests == 5);
  const auto log = broken.log();
  REQUIRE(log.size() == 5);
  double wait = 0.2;
  for (int i = 1; i < 5; ++i, wait *= 2) {
    const double found = log[i]["time"].get<double>() - log[i - 1]["time"].get<double>();
    CAPTURE(i, found);
    CHECK(found >= wait / 2);
    CHECK(found < wait + 2);  // a busy machine may add to it
  }

  for (const char* behaviour : {"cut", "silent"}) {
    Run run(behaviour);
    CHECK_THAT(run.error(), Contains("gave up after 3 tries; the last: the connection was cut"));
    CHECK(run.counts.requests == 3);
    CHECK(run.log().size() == 3);
  }
  Run garbage("garbage");
  CHECK_THAT(garbage.error(), Contains("gave up after 3 tries; the last: expected JSON, found "));
  CHECK(garbage.counts.requests == 3);
}

TEST_CASE("CompletionsClient does not wait forever", "[language]") {
  Run slow("slow");
  slow.options.total_seconds = 0.3;
  slow.options.tries = 2;
  CHECK_THAT(slow.error(), Contains("gave up after 2 tries; the last: no answer within 0.3 s"));
  CHECK(slow.seconds < 2.5);
  CHECK(slow.counts.requests == 2);

  Run stopped("slow");
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  });
  CHECK_THROWS_AS(stopped.complete({"x"}, {.cancel = stop.get_token()}), ip2p::Cancelled);
  CHECK(stopped.seconds < 2.5);

  Run nobody("fine");
  nobody.options.url = "http://127.0.0.1:9/v1";  // Nothing listens there.
  nobody.options.tries = 2;
  CHECK_THAT(nobody.error(), Contains("gave up after 2 tries; the last: not reached: "));
}

TEST_CASE("CompletionsClient gives up at once if another try would not help, and never shows the key", "[language]") {
  const std::vector<std::pair<const char*, std::string>> cases{
      {"refused", "HTTP 401: Incorrect API key provided: Bearer [key]. yyy"},
      {"forbidden", "HTTP 403: Bearer [key]; the key in IP2P_TEST_KEY was not accepted"},
      {"missing", "HTTP 404: The model davinci does not exist"},
      {"moved", "HTTP 302"},
      {"strange", "expected an answer with choices[0].text, found "},
      {"huge", "expected an answer of at most 16777216 bytes, found a larger one"}};
  for (const auto& [behaviour, words] : cases) {
    CAPTURE(behaviour);
    Run run(behaviour);
    CHECK_THAT(run.error(), Contains(words));
    CHECK(run.counts.requests == 1);
  }
  Run keyless("refused");
  keyless.options.key_variable = "";
  CHECK_THAT(keyless.error(), Contains("no key was sent"));
}

TEST_CASE("CompletionsClient keeps to a rate, with several requests at a time", "[language]") {
  Run run("fine");
  run.options.requests_per_minute = 600;  // one in 0.1 s
  run.options.connections = 4;
  std::vector<std::string> prompts;
  for (int i = 0; i < 11; ++i) prompts.push_back(std::to_string(i));
  const auto answers = run.complete(prompts);
  for (std::size_t i = 0; i < prompts.size(); ++i) CHECK(answers[i].text == "echo " + prompts[i]);
  CHECK(run.seconds >= 0.99);
  CHECK(run.counts.requests == 11);

  Run parallel("slow");
  parallel.options.connections = 4;
  CHECK(parallel.complete({"a", "b", "c", "d"})[3].text == "echo d");
  CHECK(parallel.seconds < 6);  // 3 s each
}

TEST_CASE("CompletionsClient refuses addresses and keys that are not safe", "[language]") {
  const auto error_of = [](CompletionsClientOptions options) -> std::string {
    try {
      const Client client(std::move(options));
    } catch (const ip2p::Error& error) {
      CHECK(std::string(error.what()).find(key) == std::string::npos);
      return error.what();
    }
    return "no error";
  };
  setenv("IP2P_TEST_KEY", key, 1);
  setenv("IP2P_TEST_KEY_LINE", (std::string(key) + "\n").c_str(), 1);
  unsetenv("IP2P_TEST_NO_KEY");
  CHECK(error_of({.url = "https://example.org/v1", .key_variable = "IP2P_TEST_KEY"}) == "no error");
  CHECK(error_of({.url = "http://localhost:80/v1", .key_variable = "IP2P_TEST_KEY"}) == "no error");
  CHECK(error_of({.url = "http://[::1]:80/v1", .key_variable = "IP2P_TEST_KEY"}) == "no error");
  CHECK(error_of({.url = "http://example.org/v1"}) == "no error");
  CHECK_THAT(error_of({.url = "http://example.org/v1", .key_variable = "IP2P_TEST_KEY"}),
             Contains("expected https to send a key to another machine, found http"));
  CHECK_THAT(error_of({.url = "http://127.0.0.1.example.org/v1", .key_variable = "IP2P_TEST_KEY"}),
             Contains("expected https to send a key"));
  CHECK_THAT(error_of({.url = "http://localhost@example.org/v1", .key_variable = "IP2P_TEST_KEY"}),
             Contains("expected an address without user and password"));
  CHECK_THAT(error_of({.url = "ftp://example.org"}),
             Contains("begins with http:// or https://, found 'ftp://example.org'"));
  CHECK_THAT(error_of({.url = "http://"}), Contains("expected an address such as https://host/v1"));
  CHECK_THAT(error_of({.url = "http://localhost/v1?key=1"}), Contains("expected an address such as"));
  CHECK_THAT(error_of({.key_variable = "IP2P_TEST_NO_KEY"}),
             Contains("expected a key in the environment variable IP2P_TEST_NO_KEY, found none"));
  CHECK_THAT(error_of({.key_variable = "IP2P_TEST_KEY_LINE"}), Contains("expected a key of printable characters"));
  CHECK_THAT(error_of({.tries = 0}), Contains("tries: expected at least 1, found 0"));
  CHECK_THAT(error_of({.connections = 0}), Contains("connections: expected at least 1, found 0"));
  CHECK_THAT(error_of({.total_seconds = 0}), Contains("expected positive, finite times"));
  CHECK_THAT(error_of({.requests_per_minute = -1}), Contains("requests_per_minute: expected a number >= 0"));
  CHECK_THAT(error_of({.extra = json::array()}), Contains("extra: expected a JSON object, found array"));
}

#else

TEST_CASE("CompletionsClient without libcurl says so", "[language]") {
  const ip2p::CompletionsClient client(ip2p::CompletionsClientOptions{});
  CHECK_THROWS_WITH(client.complete(std::vector<ip2p::CompletionRequest>{{"x", 0}}, {}),
                    Contains("expected a build with libcurl to send requests, found one without"));
}

#endif
