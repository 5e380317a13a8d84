#include "http_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <httplib.h>

#include "fault.hpp"
#include "ip2p/core/error.hpp"

namespace studio {
namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

/// A connection's bytes, from a client that may not be slow for long: for each request, the time spent on waiting for
/// it is bounded, in each direction, by a patience and by the least speed that is called one.
class Connection final : public httplib::Stream {
 public:
  Connection(socket_t socket, double patience) : socket_(socket), patience_(patience) {}

  /// Waits for the next request. \return whether one begins
  bool wait_for_request(std::chrono::milliseconds patience) {
    read_ = written_ = {};
    in_headers_ = true;
    header_bytes_ = 0;
    return begin_ < end_ || ready(POLLIN, patience);
  }
  void headers_end() { in_headers_ = false; }
  [[nodiscard]] bool headers_too_long() const { return header_bytes_ > most_header_bytes; }
  [[nodiscard]] bool too_slow() const { return too_slow_; }

  /// Whether the client has closed its end.
  [[nodiscard]] bool gone() const {
    char byte = 0;
    const auto got = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  }

  /// Says that nothing more comes, and takes in what the client still sends, so that it reads the answer before it is
  /// told that the connection is gone.
  void close_gently() {
    shutdown(socket_, SHUT_WR);
    std::array<char, 16384> rest{};
    const auto until = std::chrono::steady_clock::now() + 2s;
    while (std::chrono::steady_clock::now() < until && ready(POLLIN, 500ms)) {
      if (recv(socket_, rest.data(), rest.size(), MSG_DONTWAIT) <= 0) break;
    }
    close(socket_);
  }

  [[nodiscard]] bool is_readable() const override { return begin_ < end_ || ready(POLLIN, 0ms); }
  [[nodiscard]] bool is_writable() const override { return ready(POLLOUT, 0ms) && !gone(); }

  ssize_t read(char* data, size_t size) override {
    if (in_headers_ && ++header_bytes_ > most_header_bytes) return -1;  // httplib reads them byte by byte
    if (begin_ == end_) {
      if (!wait(POLLIN, read_)) return -1;
      const auto got = recv(socket_, buffer_.data(), buffer_.size(), 0);
      if (got <= 0) return got;
      read_.bytes += static_cast<double>(got);
      begin_ = 0;
      end_ = static_cast<std::size_t>(got);
    }
    const auto count = std::min(size, end_ - begin_);
    std::memcpy(data, buffer_.data() + begin_, count);
    begin_ += count;
    return static_cast<ssize_t>(count);
  }

  ssize_t write(const char* data, size_t size) override {
    if (!wait(POLLOUT, written_)) return -1;
    const auto sent = send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
    if (sent > 0) written_.bytes += static_cast<double>(sent);
    return sent;
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override { address(getpeername, ip, port); }
  void get_local_ip_and_port(std::string& ip, int& port) const override { address(getsockname, ip, port); }
  [[nodiscard]] socket_t socket() const override { return socket_; }

 private:
  /// One direction of a request.
  struct Waited {
    Seconds seconds{0};
    double bytes = 0;
  };
  static constexpr std::size_t most_header_bytes = 32 << 10;
  static constexpr double least_speed = 16 << 10;  // bytes a second

  [[nodiscard]] bool ready(short events, std::chrono::milliseconds patience) const {
    pollfd entry{socket_, events, 0};
    int found = 0;
    do {
      found = poll(&entry, 1, static_cast<int>(patience.count()));
    } while (found < 0 && errno == EINTR);
    return found > 0 && (entry.revents & POLLNVAL) == 0;
  }

  bool wait(short events, Waited& waited) {
    const auto left = Seconds(patience_ + waited.bytes / least_speed) - waited.seconds;
    const auto begin = std::chrono::steady_clock::now();
    const bool came = left > Seconds(0) && ready(events, std::chrono::ceil<std::chrono::milliseconds>(left));
    waited.seconds += std::chrono::steady_clock::now() - begin;
    too_slow_ = too_slow_ || !came;
    return came;
  }

  template <class Name>
  void address(Name name, std::string& ip, int& port) const {
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (name(socket_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (storage.ss_family == AF_INET6) {
      const auto& six = reinterpret_cast<const sockaddr_in6&>(storage);
      ip = inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size());
      port = ntohs(six.sin6_port);
    } else if (storage.ss_family == AF_INET) {
      const auto& four = reinterpret_cast<const sockaddr_in&>(storage);
      ip = inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size());
      port = ntohs(four.sin_port);
    }
  }

  socket_t socket_;
  double patience_;
  std::array<char, 16384> buffer_;
  std::size_t begin_ = 0, end_ = 0, header_bytes_ = 0;
  bool in_headers_ = true, too_slow_ = false;
  Waited read_, written_;
};

/// As many threads as there are connections to serve at the same time, up to a bound. Streams of events take one each.
class Threads final : public httplib::TaskQueue {
 public:
  explicit Threads(std::size_t most) : most_(most) {}

  void enqueue(std::function<void()> task) override {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ < tasks_.size() && threads_.size() < most_) {
      threads_.emplace_back([this] { work(); });
    } else {
      wake_.notify_one();
    }
  }

  void shutdown() override {
    {
      const std::scoped_lock lock(mutex_);
      ends_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

 private:
  void work() {
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        ++idle_;
        wake_.wait(lock, [&] { return !tasks_.empty() || ends_; });
        --idle_;
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::size_t most_, idle_ = 0;
  bool ends_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
};

/// What is known of the request that a thread works on, beside what httplib says.
struct Exchange {
  Connection* connection = nullptr;
  Request request = {};
  std::chrono::steady_clock::time_point begun = {};
  bool keeps_open = true;  ///< The body was read, so that another request may follow.
};
thread_local Exchange exchange;

/// Bytes of bodies that are being received.
class Received {
 public:
  Received(std::atomic<std::size_t>& all, std::size_t most) : all_(all), most_(most) {}
  Received(const Received&) = delete;
  Received& operator=(const Received&) = delete;
  ~Received() { all_ -= own_; }
  void add(std::size_t bytes) {
    own_ += bytes;
    if ((all_ += bytes) > most_) throw Fault(429, "queue_full", "too much is sent at the same time; try again later");
  }

 private:
  std::atomic<std::size_t>& all_;
  std::size_t most_, own_ = 0;
};

}  // namespace

/// httplib's server with connections of our own.
class HttpServer::Implementation final : public httplib::Server {
 public:
  Implementation(Service& service, const Limits& limits) : service_(service), limits_(limits) {
    new_task_queue = [this] { return new Threads(limits_.connections); };
    set_keep_alive_max_count(1000);
    set_keep_alive_timeout(5);
    set_payload_max_length(limits.bytes);
    set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_tcp_nodelay(true);
    set_default_headers({{"X-Content-Type-Options", "nosniff"},
                         {"Referrer-Policy", "no-referrer"},
                         {"Cross-Origin-Resource-Policy", "same-origin"},
                         {"Cache-Control", "no-store"}});
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      return refused_or_answered(request, response) ? HandlerResponse::Handled : HandlerResponse::Unhandled;
    });
    Post(R"([\s\S]*)", [this](const httplib::Request& request, httplib::Response& response,
                              const httplib::ContentReader& reader) { answer_with_body(request, response, reader); });
    set_error_handler(httplib::Server::Handler([this](const httplib::Request& request, httplib::Response& response) {
      if (response.body.empty()) say_what_was_wrong(request, response);
    }));
    set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr& problem) {
      send(Service::refusal(fault_of(problem)), response);
    });
    set_logger([this](const httplib::Request& request, const httplib::Response& response) { log(request, response); });
  }

  /// Binds to a port. \param wanted 0 for any that is free  \return whether it did
  bool bind(const std::string& host, int wanted) {
    port = wanted == 0 ? bind_to_any_port(host) : bind_to_port(host, wanted) ? wanted : -1;
    return port > 0 && ::listen(svr_sock_, SOMAXCONN) == 0;  // httplib lets five connections wait
  }

  int port = 0;

 private:
  /// Gives a response of ours to httplib.
  static void send(Response ours, httplib::Response& response) {
    response.status = ours.status;
    for (auto& [name, value] : ours.headers) response.set_header(name, value);
    if (ours.next) {
      response.set_chunked_content_provider(
          ours.type,
          [next = std::move(ours.next)](size_t, httplib::DataSink& sink) {
            auto piece = next();
            if (!piece) {
              sink.done();
              return true;
            }
            return piece->empty() ? sink.is_writable() : sink.write(piece->data(), piece->size());
          },
          [closed = std::move(ours.closed)](bool whole) {
            if (closed) closed(whole);
          });
    } else if (ours.shared_body) {
      const auto length = ours.shared_body->size();
      response.set_content_provider(
          length, ours.type, [body = std::move(ours.shared_body)](size_t at, size_t count, httplib::DataSink& sink) {
            return sink.write(body->data() + at, std::min<size_t>(count, 1 << 16));
          });
    } else {
      response.set_content(ours.body, ours.type);
    }
  }

  static void send_fault(const Fault& fault, httplib::Response& response) {
    exchange.keeps_open = false;
    auto refusal = Service::refusal(fault);
    refusal.headers.emplace_back("Connection", "close");
    send(std::move(refusal), response);
  }

  static Request request_of(const httplib::Request& given) {
    Request request{.method = given.method, .path = given.path, .address = given.remote_addr};
    for (const auto& [name, value] : given.headers) request.headers.emplace(name, value);
    request.gone = [connection = exchange.connection] { return connection->gone(); };
    return request;
  }

  /// Answers requests without a body, and refuses those whose body need not be read. \return whether it did
  bool refused_or_answered(const httplib::Request& given, httplib::Response& response) {
    exchange.request = request_of(given);
    auto& request = exchange.request;
    try {
      const auto rule = service_.begin(request);
      if (rule.bytes > 0 || !rule.fields.empty()) return false;
      // A body that nobody asked for would be taken for the next request.
      const auto length = request.header("Content-Length");
      exchange.keeps_open = (length.empty() || length == "0") && request.header("Transfer-Encoding").empty();
      send(service_.answer_or_fault(request), response);
    } catch (...) {
      send_fault(fault_of(std::current_exception()), response);
    }
    return true;
  }

  void answer_with_body(const httplib::Request& given, httplib::Response& response,
                        const httplib::ContentReader& reader) {
    auto& request = exchange.request;
    std::exception_ptr problem;
    // httplib must not be left by an exception while it reads.
    const auto takes = [&](auto&& take) {
      try {
        take();
        return true;
      } catch (...) {
        problem = std::current_exception();
        return false;
      }
    };
    bool whole = false;
    Received received(receiving_, limits_.memory);
    try {
      const auto rule = service_.begin(request);
      if (!rule.fields.empty()) {
        request.form = Form(rule.fields);
        whole = reader(
            [&](const httplib::MultipartFormData& field) { return takes([&] { request.form.begin(field.name); }); },
            [&](const char* data, size_t size) {
              return takes([&] {
                received.add(size);
                request.form.add({data, size});
              });
            });
      } else {
        whole = reader([&](const char* data, size_t size) {
          return takes([&] {
            received.add(size);
            if (size > rule.bytes - request.body.size()) {
              throw Fault(413, "too_large", fmt::format("expected at most {} bytes", rule.bytes));
            }
            request.body.append(data, size);
          });
        });
      }
      if (problem) std::rethrow_exception(problem);
      if (!whole) {
        if (exchange.connection->too_slow()) throw Fault(408, "timeout", "the request came too slowly");
        throw Fault(400, "wrong_value", "the body cannot be read: it is cut off, or no form");
      }
      if (!rule.fields.empty()) request.form.finish();
    } catch (...) {
      return send_fault(fault_of(std::current_exception()), response);
    }
    send(service_.answer_or_fault(request), response);
    request.form = {};
    request.body.clear();
  }

  /// For what httplib refuses by itself.
  void say_what_was_wrong(const httplib::Request&, httplib::Response& response) {
    const auto* connection = exchange.connection;
    if (connection->headers_too_long()) {
      send_fault(Fault(431, "too_large", "the request's headers are too long"), response);
    } else if (connection->too_slow()) {
      send_fault(Fault(408, "timeout", "the request came too slowly"), response);
    } else if (response.status == 413) {
      send_fault(Fault(413, "too_large", fmt::format("expected a request of at most {} bytes", limits_.bytes)),
                 response);
    } else if (response.status == 404) {
      send_fault(not_found("there is nothing here"), response);
    } else {
      send_fault(Fault(response.status, "wrong_value", "the request cannot be read"), response);
    }
  }

  void log(const httplib::Request& given, const httplib::Response& response) {
    if (exchange.request.method.empty()) exchange.request = request_of(given);
    const Seconds taken = std::chrono::steady_clock::now() - exchange.begun;
    service_.record(exchange.request, response.status, std::max(response.body.size(), response.content_length_),
                    taken.count());
  }

  bool process_and_close_socket(socket_t socket) override {
    Connection connection(socket, limits_.patience);
    for (auto left = keep_alive_max_count_; left > 0; --left) {
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(keep_alive_timeout_sec_);
      bool comes = false;
      while (!comes && svr_sock_ != INVALID_SOCKET && std::chrono::steady_clock::now() < until) {
        comes = connection.wait_for_request(100ms);
      }
      if (!comes) break;
      exchange = {.connection = &connection, .begun = std::chrono::steady_clock::now()};
      bool closes = false;
      const bool answered =
          process_request(connection, left == 1, closes, [&](httplib::Request&) { connection.headers_end(); });
      if (!answered || closes || !exchange.keeps_open) break;
    }
    exchange = {};
    connection.close_gently();
    return true;
  }

  Service& service_;
  Limits limits_;
  std::atomic<std::size_t> receiving_ = 0;
};

HttpServer::HttpServer(Service& service, const Limits& limits, const std::string& host, int port)
    : implementation_(std::make_unique<Implementation>(service, limits)) {
  ip2p::require(implementation_->bind(host, port), "--port: cannot listen on port {} of {}: {}", port, host,
                std::strerror(errno));
}

HttpServer::~HttpServer() = default;

int HttpServer::port() const { return implementation_->port; }

void HttpServer::run() { implementation_->listen_after_bind(); }

void HttpServer::stop() { implementation_->stop(); }

}  // namespace studio
