#pragma once

/// \file
/// Requests to the Hugging Face Hub. Empty in builds without libcurl.

#include "ip2p/io/ascii.hpp"
#include "ip2p/io/curl.hpp"

#if IP2P_HAS_CURL

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// A request failed, and another try may help.
class HubFailure : public Error {
 public:
  HubFailure(const std::string& text, bool answered, double wait = 0) : Error(text), answered_(answered), wait_(wait) {}
  [[nodiscard]] bool answered() const { return answered_; }  ///< Whether a server was reached.
  [[nodiscard]] double wait() const { return wait_; }        ///< Seconds that it asked to wait.

 private:
  bool answered_;
  double wait_;
};

/// An answer, whatever its status.
struct HubAnswer {
  long status = 0;
  std::map<std::string, std::string> headers = {};  ///< by their names in lower case
  std::string body = {};                            ///< unless a sink took it
  std::string redirect = {};                        ///< absolute address, if the answer is one
  bool own = true;                                  ///< from the Hub, not from a store that it redirected to

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

/// Takes part of the body of a successful answer; false ends the transfer.
using HubSink = std::function<bool(const HubAnswer&, std::span<const std::byte>)>;

/// How requests are made.
struct HubClientOptions {
  std::string endpoint;  ///< "https://huggingface.co"
  std::string token;     ///< sent to the endpoint alone; empty: none
  double connect_seconds = 10;
  double stall_seconds = 60;  ///< without a byte, until a transfer counts as broken
  std::stop_token cancel;
};

/// Sends requests over one connection. Redirects are followed here rather than by libcurl, so that the token goes to no
/// other server than the endpoint, whatever an answer says.
class HubClient {
 public:
  static constexpr std::size_t largest_body = std::size_t{64} << 20;

  /// \throws Error for an endpoint that is no address
  explicit HubClient(HubClientOptions options) : options_(std::move(options)) {
    init_curl();
    handle_.reset(curl_easy_init());
    require(handle_ != nullptr, "libcurl cannot be started");
    origin_ = origin_of(options_.endpoint);
    require(!origin_.empty(), "HF_ENDPOINT: expected an address such as https://huggingface.co, found '{}'",
            printable(options_.endpoint));
  }

  /// The body of an address, redirects followed. \param sink takes the body of an answer with status 200 or 206
  /// \param from asks for the bytes from this one on
  /// \throws HubFailure where another try may help, Error otherwise, Cancelled on a requested stop
  HubAnswer get(const std::string& url, const HubSink& sink = {}, std::uint64_t from = 0) {
    return follow(url, false, sink, from);
  }

  /// The headers of an address: those of the Hub's answers, up to a redirect to another server. \throws as `get`
  HubAnswer head(const std::string& url) { return follow(url, true, {}, 0); }

  /// Waits. \throws Cancelled on a requested stop
  void pause(double seconds) const {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any never;
    never.wait_for(lock, options_.cancel, std::chrono::duration<double>(seconds), [] { return false; });
    check_cancelled();
  }

  void check_cancelled() const {
    if (options_.cancel.stop_requested()) throw Cancelled("cancelled while fetching; what has come is kept");
  }

  /// Name and port of the server at an address, as messages show it: addresses of stores hold signatures.
  static std::string host_of(const std::string& url) {
    const auto origin = origin_of(url);
    const auto host = origin.substr(std::min(origin.find("//") + 2, origin.size()));
    return host.substr(0, host.ends_with(":443") ? host.size() - 4 : host.size());
  }

  /// Whether an address is of this machine.
  static bool is_local(const std::string& url) {
    auto host = host_of(url);
    host = host.substr(0, host.rfind(':'));
    const bool numbers = host.find_first_not_of("0123456789.") == std::string::npos;
    return host == "localhost" || host == "[::1]" || (numbers && host.starts_with("127."));
  }

  /// A text without the token, for a server may repeat it in an answer. One of a few letters, as for a mirror that
  /// wants any, is part of other words and stays.
  [[nodiscard]] std::string without_token(std::string text) const {
    const auto& token = options_.token;
    if (token.size() < 8) return text;
    for (auto place = text.find(token); place != std::string::npos; place = text.find(token, place)) {
      text.replace(place, token.size(), "[token]");
    }
    return text;
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// What libcurl's callbacks see of a transfer.
  struct Transfer {
    CURL* handle;
    HubAnswer answer;
    const HubSink* sink;
    bool refused = false;  ///< the sink wants no more
    bool too_large = false;
    const HubClientOptions* options = nullptr;
    Clock::time_point last = Clock::now();  ///< when the last bytes came
    curl_off_t received = 0;
    bool stalled = false;
  };

  /// scheme://host:port, or empty for anything but http and https.
  static std::string origin_of(const std::string& url) {
    const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), &curl_url_cleanup);
    if (parsed == nullptr || curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return {};
    std::string origin;
    const auto add = [&](CURLUPart part, const char* before) {
      char* text = nullptr;
      if (curl_url_get(parsed.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return false;
      origin += before;
      origin += lower_ascii(text);
      curl_free(text);
      return true;
    };
    if (!add(CURLUPART_SCHEME, "") || !add(CURLUPART_HOST, "://") || !add(CURLUPART_PORT, ":")) return {};
    return origin.starts_with("http://") || origin.starts_with("https://") ? origin : std::string();
  }

  HubAnswer follow(std::string url, bool head, const HubSink& sink, std::uint64_t from) {
    std::map<std::string, std::string> earlier;
    bool secure = url.starts_with("https:");
    for (int hop = 0; hop < 10; ++hop) {
      auto answer = once(url, head, sink, from);
      if (answer.own) {
        for (const auto& [name, value] : answer.headers) {
          if (name.starts_with("x-")) earlier.insert_or_assign(name, value);
        }
      }
      const auto target = answer.redirect.empty() ? std::string() : origin_of(answer.redirect);
      const bool done = answer.redirect.empty() || (head && target != origin_ && earlier.contains("x-linked-etag"));
      if (done) {
        answer.headers.insert(earlier.begin(), earlier.end());
        return answer;
      }
      require(!target.empty(), "{}: redirects to something that is not on the web", host_of(url));
      const bool still_secure = target.starts_with("https:");
      require(still_secure || !secure, "{}: redirects to {} without encryption, which is refused", host_of(url),
              host_of(answer.redirect));
      secure = still_secure;
      url = answer.redirect;
    }
    throw_error("{}: redirects without an end", host_of(url));
  }

  HubAnswer once(const std::string& url, bool head, const HubSink& sink, std::uint64_t from) {
    check_cancelled();
    auto* curl = handle_.get();
    curl_easy_reset(curl);  // keeps the connection
    Transfer transfer{
        .handle = curl, .answer = {.own = origin_of(url) == origin_}, .sink = &sink, .options = &options_};
    CurlHeaders headers;
    headers.add("Accept-Encoding: identity");  // sizes and sums are those of the file
    if (transfer.answer.own && !options_.token.empty()) headers.add("Authorization: Bearer " + options_.token);
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "ip2p");
    if (head) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (from > 0) curl_easy_setopt(curl, CURLOPT_RANGE, fmt::format("{}-", from).c_str());
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_seconds * 1000));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &HubClient::take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &HubClient::take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &HubClient::should_stop);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
    const auto code = curl_easy_perform(curl);
    finish(transfer, code, url);
    return std::move(transfer.answer);
  }

  void finish(Transfer& transfer, CURLcode code, const std::string& url) const {
    auto& answer = transfer.answer;
    curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &answer.status);
    if (transfer.refused) return;
    check_cancelled();
    require(!transfer.too_large, "{}: expected an answer of at most {} bytes, found a larger one", host_of(url),
            largest_body);
    const auto host = host_of(url);
    if (transfer.stalled) {
      throw HubFailure(fmt::format("{}: nothing came for {:g} s", host, options_.stall_seconds), answer.status != 0);
    }
    if (code != CURLE_OK) {
      const auto words = fmt::format("{}: {}", host, curl_easy_strerror(code));
      if (curl_failure_may_pass(code)) throw HubFailure(words, answer.status != 0);
      throw Error(words);
    }
    curl_off_t wait = 0;
    curl_easy_getinfo(transfer.handle, CURLINFO_RETRY_AFTER, &wait);
    const auto status = answer.status;
    const bool passing = status == 408 || status == 429 || status >= 500;
    // A store refuses addresses that have expired; the next try gets a new one from the Hub.
    if (passing || (!answer.own && status >= 400 && status != 416)) {
      throw HubFailure(fmt::format("{} answered HTTP {}", host, status), true, static_cast<double>(wait));
    }
    char* redirect = nullptr;
    curl_easy_getinfo(transfer.handle, CURLINFO_REDIRECT_URL, &redirect);
    if (redirect != nullptr && status >= 300 && status < 400) answer.redirect = redirect;
  }

  /// Ends a transfer on request, and one that stands still: libcurl's own limit is one of the mean speed.
  static int should_stop(void* self, curl_off_t, curl_off_t received, curl_off_t, curl_off_t) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto now = Clock::now();
    if (received != std::exchange(transfer.received, received)) transfer.last = now;
    transfer.stalled = std::chrono::duration<double>(now - transfer.last).count() > transfer.options->stall_seconds;
    return transfer.stalled || transfer.options->cancel.stop_requested() ? 1 : 0;
  }

  static std::size_t take_header(char* data, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) transfer.answer.headers.clear();  // of a proxy, or "100 Continue"
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return size * count;
    auto name = lower_ascii(line.substr(0, colon));
    auto value = line.substr(colon + 1);
    const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    while (!value.empty() && space(value.front())) value.remove_prefix(1);
    while (!value.empty() && space(value.back())) value.remove_suffix(1);
    transfer.answer.headers.insert_or_assign(std::move(name), std::string(value));
    return size * count;
  }

  static std::size_t take_body(char* data, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto bytes = size * count;
    auto& answer = transfer.answer;
    curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &answer.status);
    if (*transfer.sink && (answer.status == 200 || answer.status == 206)) {
      transfer.refused = !(*transfer.sink)(answer, std::as_bytes(std::span(data, bytes)));
      return transfer.refused ? 0 : bytes;
    }
    transfer.too_large = answer.body.size() + bytes > largest_body;
    if (transfer.too_large) return 0;
    answer.body.append(data, bytes);
    return bytes;
  }

  HubClientOptions options_;
  std::string origin_;
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle_{nullptr, &curl_easy_cleanup};
};

}  // namespace ip2p::detail

#endif
