#pragma once

/// \file
/// The HttpTransport concept, which sends requests to a service, with its requests and answers.

#include <concepts>
#include <stop_token>
#include <string>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// A JSON document to send.
struct HttpRequest {
  std::string url = {};         ///< The whole address.
  std::string body = {};        ///< JSON text.
  std::string key = {};         ///< Sent as a bearer token unless empty; never part of a message.
  double connect_seconds = 10;  ///< To reach the server.
  double total_seconds = 120;   ///< For the whole answer.
  std::stop_token cancel = {};  ///< A requested stop ends the request with `Cancelled`.
};

/// Whatever the server answered.
struct HttpResponse {
  int status = 0;           ///< HTTP status, 200 for success.
  std::string body = {};    ///< As the server sent it.
  double retry_after = -1;  ///< Seconds that the server asks to wait, -1 if it does not.
};

/// No answer: the server was unreachable or too slow, or the connection was cut. A retry may help.
class HttpFailure : public Error {
 public:
  using Error::Error;
};

/// `post(request)` returns any answer, whatever its status. Throws `HttpFailure` if a retry may help, `Error` if it
/// will not, `Cancelled` on a requested stop; messages leave out the address, which the client puts before them. May be
/// called from several threads.
template <class Transport>
concept HttpTransport = requires(const Transport& transport, const HttpRequest& request) {
  { transport.post(request) } -> std::convertible_to<HttpResponse>;
};

}  // namespace ip2p
