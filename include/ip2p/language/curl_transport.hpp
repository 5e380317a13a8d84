#pragma once

/// \file
/// HTTP through libcurl, if it is installed (`IP2P_HAS_CURL`).

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/curl.hpp"
#include "ip2p/language/http.hpp"

namespace ip2p {

/// Sends requests with libcurl. Certificates are checked, redirects are not followed, answers are limited to 16 MiB.
/// Without libcurl in the build, `post` throws `Error`.
struct CurlTransport {
  /// Sends a request and waits for the answer. \throws HttpFailure where another try may help, Error otherwise,
  /// Cancelled on a requested stop
  HttpResponse post(const HttpRequest& request) const;
};
static_assert(HttpTransport<CurlTransport>);

#if IP2P_HAS_CURL

namespace detail {

struct CurlAnswer {
  static constexpr std::size_t largest = std::size_t{16} << 20;
  std::string body;
  bool too_large = false;

  static std::size_t take(char* data, std::size_t size, std::size_t count, void* self) {
    auto& answer = *static_cast<CurlAnswer*>(self);
    answer.too_large = answer.body.size() + size * count > largest;
    if (answer.too_large) return 0;
    answer.body.append(data, size * count);
    return size * count;
  }
};

}  // namespace detail

inline HttpResponse CurlTransport::post(const HttpRequest& request) const {
  detail::init_curl();
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle(curl_easy_init(), &curl_easy_cleanup);
  require(handle != nullptr, "libcurl cannot be started");
  detail::CurlHeaders headers;
  headers.add("Content-Type: application/json");
  headers.add("Accept: application/json");
  headers.add("Expect:");  // Disables "Expect: 100-continue", which costs a second with servers that ignore it.
  if (!request.key.empty()) headers.add("Authorization: Bearer " + request.key);

  detail::CurlAnswer answer;
  auto* curl = handle.get();
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  if (request.url.starts_with("http:")) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_seconds * 1000));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.total_seconds * 1000));
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &detail::CurlAnswer::take);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &detail::curl_should_stop);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &request.cancel);

  const auto code = curl_easy_perform(curl);
  switch (code) {
    case CURLE_OK:
      break;
    case CURLE_ABORTED_BY_CALLBACK:
      throw Cancelled("cancelled while waiting for an answer");
    case CURLE_OPERATION_TIMEDOUT: {
      double connected = 0;
      curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME, &connected);
      if (connected == 0) throw HttpFailure(fmt::format("not connected within {:g} s", request.connect_seconds));
      throw HttpFailure(fmt::format("no answer within {:g} s", request.total_seconds));
    }
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      throw HttpFailure(fmt::format("not reached: {}", curl_easy_strerror(code)));
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      throw HttpFailure(fmt::format("the connection was cut: {}", curl_easy_strerror(code)));
    default:
      require(!answer.too_large, "expected an answer of at most {} bytes, found a larger one",
              detail::CurlAnswer::largest);
      throw_error("{}", curl_easy_strerror(code));
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  curl_off_t wait = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait);  // Converted to seconds from a number or a date; 0 if absent.
  return {static_cast<int>(status), std::move(answer.body), wait > 0 ? static_cast<double>(wait) : -1.0};
}

#else

inline HttpResponse CurlTransport::post(const HttpRequest&) const {
  throw_error("expected a build with libcurl to send requests, found one without");
}

#endif

}  // namespace ip2p
