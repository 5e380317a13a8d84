#pragma once

/// \file
/// libcurl, if it is installed.
///
/// `IP2P_HAS_CURL` is 1 if requests can be sent. The build sets it to match what is linked; if it does not, the
/// presence of the header decides.

#ifndef IP2P_HAS_CURL
#if __has_include(<curl/curl.h>)
#define IP2P_HAS_CURL 1
#else
#define IP2P_HAS_CURL 0
#endif
#endif

#if IP2P_HAS_CURL
#include <curl/curl.h>

#include <memory>
#include <stop_token>
#include <string>

#include "ip2p/core/error.hpp"

namespace ip2p::detail {

/// Starts the library once. \throws Error if it cannot be
inline void init_curl() {
  static const auto code = curl_global_init(CURL_GLOBAL_DEFAULT);
  require(code == CURLE_OK, "libcurl cannot be started: {}", curl_easy_strerror(code));
}

/// A callback of libcurl that ends a transfer once a stop is requested. \param token a `std::stop_token`
inline int curl_should_stop(void* token, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::stop_token*>(token)->stop_requested() ? 1 : 0;
}

/// The lines of a request's header.
class CurlHeaders {
 public:
  /// Appends "Name: value".
  void add(const std::string& line) {
    auto* list = curl_slist_append(list_.get(), line.c_str());
    require(list != nullptr, "libcurl: out of memory");
    static_cast<void>(list_.release());
    list_.reset(list);
  }
  /// For libcurl; valid as long as this lives.
  [[nodiscard]] curl_slist* get() const { return list_.get(); }

 private:
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list_{nullptr, &curl_slist_free_all};
};

/// Whether a transfer that failed this way may succeed at another try.
inline bool curl_failure_may_pass(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

}  // namespace ip2p::detail
#endif
