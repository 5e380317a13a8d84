#pragma once

/// \file
/// Serves a `Service` over HTTP/1.1.

#include <cstdint>
#include <memory>
#include <string>

#include "service.hpp"

namespace studio {

/// A listening socket and the threads behind it.
class HttpServer {
 public:
  /// Listens. \param port 0 for any that is free  \throws ip2p::Error where it cannot
  HttpServer(Service& service, const Limits& limits, const std::string& host, int port);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  [[nodiscard]] int port() const;

  /// Answers requests until `stop`.
  void run();

  /// Lets `run` return once the requests that came are answered. From any thread.
  void stop();

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace studio
