#pragma once

/// \file
/// A language model behind a service with OpenAI's interface.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/language/concepts.hpp"
#include "ip2p/language/curl_transport.hpp"
#include "ip2p/language/http.hpp"

namespace ip2p {

/// Settings of a `CompletionsClient`.
struct CompletionsClientOptions {
  std::string url = "http://127.0.0.1:8000/v1";  ///< Up to /v1; "/completions" or "/chat/completions" is added.
  std::string model = {};                        ///< The service's name for it.
  bool chat = false;                             ///< Send the prompt as a user's message.
  std::string system = {};                       ///< Chat: the message before it, or "".
  std::string key_variable = {};                 ///< Environment variable with the key; "" sends none.
  std::int64_t tries = 6;                        ///< Attempts per request, including the first, >= 1.
  double first_wait = 0.5;                       ///< Seconds before the second try; doubles with each, > 0.
  double longest_wait = 60;                      ///< Seconds; the request fails if the service asks for more.
  double connect_seconds = 10;                   ///< To reach the service, > 0.
  double total_seconds = 120;                    ///< For a whole answer, > 0.
  double requests_per_minute = 0;                ///< Limit, retries included; requests are spaced evenly. 0: no limit.
  std::int64_t connections = 1;                  ///< Concurrent requests, >= 1.
  nlohmann::json extra =
      nlohmann::json::object();  ///< Merge-patched into each request (RFC 7396), for service-specific fields.
};

/// What a client has done so far.
struct CompletionsClientCounts {
  std::int64_t requests = 0;  ///< Sent, tries included.
  std::int64_t retries = 0;   ///< Of these, second and later tries.
};

/// Completes texts with a service: OpenAI's, or vLLM, llama.cpp's server, Ollama and others with the same interface.
///
/// Retries with exponential backoff when the service is unreachable, too slow, drops the connection, answers 408, 409,
/// 429, 500, 502, 503 or 504, or sends something that is not JSON; honours Retry-After. The key is read from the
/// environment at construction, sent to no other host, never sent unencrypted beyond this machine, and never appears in
/// a message. A seed is sent, but services may ignore it. Copies share counts and the rate limit.
template <HttpTransport Transport = CurlTransport>
class CompletionsClient {
 public:
  /// \throws Error for options out of range, a URL that is not http or https, and a missing key
  explicit CompletionsClient(CompletionsClientOptions options, Transport transport = {})
      : options_(std::move(options)), transport_(std::move(transport)), shared_(std::make_shared<Shared>()) {
    const auto& o = options_;
    require(o.tries >= 1, "completions client: tries: expected at least 1, found {}", o.tries);
    require(o.connections >= 1, "completions client: connections: expected at least 1, found {}", o.connections);
    require(o.first_wait > 0 && o.longest_wait >= 0 && o.connect_seconds > 0 && o.total_seconds > 0 &&
                std::isfinite(o.first_wait + o.longest_wait + o.connect_seconds + o.total_seconds),
            "completions client: expected positive, finite times, found {}, {}, {} and {}", o.first_wait,
            o.longest_wait, o.connect_seconds, o.total_seconds);
    require(std::isfinite(o.requests_per_minute) && o.requests_per_minute >= 0,
            "completions client: requests_per_minute: expected a number >= 0, found {}", o.requests_per_minute);
    require(o.extra.is_object(), "completions client: extra: expected a JSON object, found {}", o.extra.type_name());
    const bool local = check_address(options_.url);
    while (options_.url.ends_with('/')) options_.url.pop_back();
    if (o.key_variable.empty()) return;
    const char* key = std::getenv(o.key_variable.c_str());
    require(key != nullptr && *key != '\0',
            "completions client: expected a key in the environment variable {}, found none", o.key_variable);
    key_ = key;
    require(std::all_of(key_.begin(), key_.end(), [](char c) { return c > 0x20 && c < 0x7F; }),
            "completions client: expected a key of printable characters in {}, found others (a trailing newline?)",
            o.key_variable);
    require(local || options_.url.starts_with("https://"),
            "completions client: {}: expected https to send a key to another machine, found http", options_.url);
  }

  /// As given, without a slash at the end of the address.
  [[nodiscard]] const CompletionsClientOptions& options() const { return options_; }
  /// Of this client and its copies so far.
  [[nodiscard]] CompletionsClientCounts counts() const { return {shared_->requests.load(), shared_->retries.load()}; }

  /// Sends each request separately. \throws Error with the service's own message when a request fails for good (the
  ///   others are then abandoned), `Cancelled` on a requested stop
  [[nodiscard]] std::vector<Completion> complete(std::span<const CompletionRequest> requests,
                                                 const CompletionOptions& options) const {
    options.validate();
    std::vector<Completion> results(requests.size());
    std::atomic<std::size_t> next{0};
    std::stop_source stop;
    const std::stop_callback forward(options.cancel, [&] { stop.request_stop(); });
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
      try {
        for (auto i = next++; i < requests.size(); i = next++) {
          if (stop.stop_requested()) throw Cancelled("cancelled between two requests");
          results[i] = ask(requests[i], options, stop.get_token());
        }
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!failure) failure = std::current_exception();
        stop.request_stop();
      }
    };
    {
      const auto count = std::min(requests.size(), static_cast<std::size_t>(options_.connections));
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i < count; ++i) threads.emplace_back(work);
      work();
    }
    if (failure) std::rethrow_exception(failure);
    return results;
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Shared {
    std::atomic<std::int64_t> requests{0}, retries{0};
    std::mutex mutex;
    Clock::time_point next_start{};
  };

  /// Checks the URL; true if its host is this machine. Messages quote the URL, so it must not contain a password.
  static bool check_address(const std::string& url) {
    const auto scheme = url.find("://");
    require(url.starts_with("http://") || url.starts_with("https://"),
            "completions client: expected an address that begins with http:// or https://, found '{}'",
            detail::printable(url.substr(0, url.find('@'))));
    const auto rest = std::string_view(url).substr(scheme + 3);
    const auto authority = rest.substr(0, rest.find_first_of("/?#"));
    require(authority.find('@') == std::string_view::npos,
            "completions client: expected an address without user and password, found them in it");
    require(!authority.empty() && url.find_first_of("?# \t\r\n") == std::string::npos,
            "completions client: expected an address such as https://host/v1, found '{}'", detail::printable(url));
    const auto host = authority.starts_with('[') ? authority.substr(0, authority.find(']') + 1)
                                                 : authority.substr(0, authority.find(':'));
    const bool numbers = host.find_first_not_of("0123456789.") == std::string_view::npos;
    return host == "localhost" || host == "[::1]" || (numbers && host.starts_with("127."));
  }

  [[nodiscard]] nlohmann::json body_of(const CompletionRequest& request, const CompletionOptions& options) const {
    // The same request always gets the same seed, different samples get different ones; services take 31 bits.
    const auto seed = SampleRandom(options.seed, 0, request.sample).below(std::int64_t{1} << 31);
    nlohmann::json body{{"model", options_.model},
                        {"max_tokens", options.max_tokens},
                        {"temperature", options.temperature},
                        {"top_p", options.top_p},
                        {"frequency_penalty", options.frequency_penalty},
                        {"presence_penalty", options.presence_penalty},
                        {"seed", seed},
                        {"n", 1}};
    if (!options.stop.empty()) body["stop"] = options.stop;
    if (options_.chat) {
      body["messages"] = nlohmann::json::array();
      if (!options_.system.empty()) body["messages"].push_back({{"role", "system"}, {"content", options_.system}});
      body["messages"].push_back({{"role", "user"}, {"content", request.prompt}});
    } else {
      body["prompt"] = request.prompt;
    }
    body.merge_patch(options_.extra);
    return body;
  }

  /// One request with all its retries.
  [[nodiscard]] Completion ask(const CompletionRequest& request, const CompletionOptions& options,
                               const std::stop_token& cancel) const {
    const HttpRequest message{options_.url + (options_.chat ? "/chat/completions" : "/completions"),
                              body_of(request, options).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                              key_,
                              options_.connect_seconds,
                              options_.total_seconds,
                              cancel};
    SampleRandom jitter(options.seed, 1, request.sample);
    for (std::int64_t attempt = 1;; ++attempt) {
      take_turn(cancel);
      ++shared_->requests;
      if (attempt > 1) ++shared_->retries;
      std::string problem;
      double wait = std::min(options_.longest_wait, std::ldexp(options_.first_wait, static_cast<int>(attempt) - 1)) *
                    jitter.uniform(0.5, 1.0);  // Keeps clients that failed together from retrying together.
      if (const auto response = post(message, problem)) {
        if (auto completion = read(*response, options, message.url, problem)) return std::move(*completion);
        if (response->retry_after >= 0) wait = response->retry_after;
        require(wait <= options_.longest_wait, "{}: {}; it asks to wait {:g} s, expected at most {:g} s",
                without_key(message.url), problem, wait, options_.longest_wait);
      }
      require(attempt < options_.tries, "{}: gave up after {} tries; the last: {}", without_key(message.url), attempt,
              problem);
      pause(wait, cancel);
    }
  }

  /// The answer, or nothing and a `problem` that a retry may solve. \throws Error for one that a retry cannot
  [[nodiscard]] std::optional<HttpResponse> post(const HttpRequest& message, std::string& problem) const {
    try {
      return transport_.post(message);
    } catch (const HttpFailure& failure) {
      problem = without_key(failure.what());
      return std::nullopt;
    } catch (const Cancelled&) {
      throw;
    } catch (const Error& error) {
      throw Error(without_key(message.url + ": " + error.what()));
    }
  }

  /// The completion, or nothing and a `problem` that a retry may solve. \throws Error for one that a retry cannot
  [[nodiscard]] std::optional<Completion> read(const HttpResponse& response, const CompletionOptions& options,
                                               const std::string& url, std::string& problem) const {
    static const std::set<int> passing{408, 409, 429, 500, 502, 503, 504};
    const auto json = detail::json_or_discarded(response.body);
    if (response.status != 200) {
      const auto said = words_of(json, response.body);
      problem = fmt::format("HTTP {}{}", response.status, said.empty() ? "" : ": " + said);
      const bool spent = code_of(json) == "insufficient_quota";
      if (passing.contains(response.status) && !spent) return std::nullopt;
      const bool refused = (response.status == 401 || response.status == 403);
      throw_error("{}: {}{}", without_key(url), problem,
                  !refused       ? ""
                  : key_.empty() ? "; no key was sent"
                                 : fmt::format("; the key in {} was not accepted", options_.key_variable));
    }
    if (json.is_discarded()) {
      problem = fmt::format("expected JSON, found {} bytes that do not parse", response.body.size());
      return std::nullopt;
    }
    try {
      const auto& choice = json.at("choices").at(0);
      const auto& text = options_.chat ? choice.at("message").at("content") : choice.at("text");
      Completion result;
      const auto reason = choice.value("finish_reason", nlohmann::json());
      if (reason == "length") result.finish = FinishReason::length;
      if (reason == "content_filter" || text.is_null()) result.finish = FinishReason::filter;
      if (text.is_string()) result.text = text.template get<std::string>();
      if (json.contains("usage") && json["usage"].is_object()) {
        const auto tokens = json["usage"].value("completion_tokens", nlohmann::json());
        if (tokens.is_number_integer()) result.tokens = tokens.template get<std::int64_t>();
      }
      // Some services include the stop text.
      if (detail::cut_at_stop(result.text, options.stop)) result.finish = FinishReason::stop;
      return result;
    } catch (const nlohmann::json::exception&) {
      throw_error("{}: expected an answer with choices[0].{}, found {}", without_key(url),
                  options_.chat ? "message.content" : "text",
                  detail::printable(without_key(json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace))));
    }
  }

  /// The service's own error message, with the key removed.
  [[nodiscard]] std::string words_of(const nlohmann::json& json, const std::string& body) const {
    if (json.is_object() && json.contains("error")) {
      const auto& error = json["error"];
      if (error.is_string()) return detail::printable(without_key(error.template get<std::string>()));
      if (error.is_object() && error.contains("message") && error["message"].is_string()) {
        return detail::printable(without_key(error["message"].template get<std::string>()));
      }
    }
    return detail::printable(without_key(body));
  }

  static std::string code_of(const nlohmann::json& json) {
    if (!json.is_object() || !json.contains("error") || !json["error"].is_object()) return {};
    const auto code = json["error"].value("code", nlohmann::json());
    return code.is_string() ? code.template get<std::string>() : std::string();
  }

  /// A service may echo the key in its answer. Call before `printable`, which may cut the key in two.
  [[nodiscard]] std::string without_key(std::string text) const {
    if (key_.empty()) return text;
    for (auto position = text.find(key_); position != std::string::npos; position = text.find(key_))
      text.replace(position, key_.size(), "[key]");
    return text;
  }

  void take_turn(const std::stop_token& cancel) const {
    if (options_.requests_per_minute == 0) return;
    const auto gap =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(60.0 / options_.requests_per_minute));
    std::unique_lock lock(shared_->mutex);
    const auto now = Clock::now();
    const auto start = std::max(now, shared_->next_start);
    shared_->next_start = start + gap;
    lock.unlock();
    pause(std::chrono::duration<double>(start - now).count(), cancel);
  }

  static void pause(double seconds, const std::stop_token& cancel) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any never;
    never.wait_for(lock, cancel, std::chrono::duration<double>(seconds), [] { return false; });
    if (cancel.stop_requested()) throw Cancelled("cancelled while waiting to try again");
  }

  CompletionsClientOptions options_;
  Transport transport_;
  std::shared_ptr<Shared> shared_;
  std::string key_;
};
static_assert(LanguageModel<CompletionsClient<>>);

}  // namespace ip2p
