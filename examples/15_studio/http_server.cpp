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
#include "form.hpp"
#include "http.hpp"
#include "http_body.hpp"
#include "http_head.hpp"
#include "ip2p/core/error.hpp"
#include "multipart.hpp"

namespace studio {
namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

/// A connection to a client that may not be slow for long: for each request, the time spent on waiting for it is
/// bounded, in each direction, by a patience and by the least speed that is called one.
///
/// httplib, which writes the responses, reads none of the client's bytes: heads and bodies are read here, strictly, and
/// `read` gives it the first line and headers of a request that asks for the same kind of response.
class Connection final : public httplib::Stream {
 public:
  Connection(socket_t socket, double patience) : socket_(socket), patience_(patience) {}

  /// Waits for the next request. \return whether one begins
  bool wait_for_request(std::chrono::milliseconds patience) {
    read_ = written_ = {};
    return begin_ < end_ || ready(POLLIN, patience);
  }

  /// Reads a request's head, up to its empty line or to a line that ends in LF alone, which is none of HTTP's.
  /// \return it as it came; nothing if the client has gone without a request
  /// \throws Fault for one that is too long, too slow or cut off
  std::optional<std::string> read_head() {
    std::string head;
    char byte = 0;
    while (!head.ends_with("\r\n\r\n") && !(head.ends_with('\n') && !head.ends_with("\r\n"))) {
      if (head.size() == most_head_bytes) {
        // A target that is too long on its own has a status of its own.
        const bool line = head.find('\n') == head.npos;
        throw Fault(line ? 414 : 431, "too_large", "the request's headers are too long");
      }
      if (receive(&byte, 1) == 0) {
        if (head.empty()) return {};
        throw Fault(400, "wrong_value", "the request is cut off");
      }
      head += byte;
    }
    return head;
  }

  /// Gives up to `size` bytes of what the client sends, once there are some; 0 at the end.
  /// \throws Fault if they come too slowly
  std::size_t receive(char* data, std::size_t size) {
    if (begin_ == end_) {
      if (!wait(POLLIN, read_)) throw Fault(408, "timeout", "the request came too slowly");
      const auto got = recv(socket_, buffer_.data(), buffer_.size(), 0);
      if (got <= 0) return 0;
      read_.bytes += static_cast<double>(got);
      begin_ = 0;
      end_ = static_cast<std::size_t>(got);
    }
    const auto count = std::min(size, end_ - begin_);
    std::memcpy(data, buffer_.data() + begin_, count);
    begin_ += count;
    return count;
  }

  /// Lets a client that waits for it send the body.
  void say_continue() {
    constexpr std::string_view text = "HTTP/1.1 100 Continue\r\n\r\n";
    write(text.data(), text.size());
  }

  /// What httplib reads as the request.
  void give(std::string request) { given_ = std::move(request); }

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

  [[nodiscard]] bool is_readable() const override { return !given_.empty(); }
  [[nodiscard]] bool is_writable() const override { return ready(POLLOUT, 0ms); }

  ssize_t read(char* data, size_t size) override {
    const auto count = given_.copy(data, size);
    given_.erase(0, count);
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
  std::size_t begin_ = 0, end_ = 0;
  std::string given_;
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

/// The request that a thread works on.
struct Exchange {
  Connection* connection = nullptr;
  Head head = {};
  std::exception_ptr problem = {};  ///< Why there is no head.
  std::chrono::steady_clock::time_point begun = {};
  bool keeps_open = false;  ///< Another request may follow.
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
    set_socket_options([](socket_t socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_tcp_nodelay(true);
    set_default_headers({{"X-Content-Type-Options", "nosniff"},
                         {"Referrer-Policy", "no-referrer"},
                         {"Cross-Origin-Resource-Policy", "same-origin"},
                         {"Cache-Control", "no-store"}});
    set_pre_routing_handler([this](const httplib::Request&, httplib::Response& response) {
      send(answered(), response);
      return HandlerResponse::Handled;
    });
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      if (exchange.keeps_open) return;
      response.headers.erase("Keep-Alive");  // which httplib has set
      response.set_header("Connection", "close");
    });
    set_logger([this](const httplib::Request&, const httplib::Response& response) { log(response); });
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
      auto provider = [next = std::move(ours.next), connection = exchange.connection](size_t, httplib::DataSink& sink) {
        // What is thrown here would end the program. The head is sent, so the client is told by the connection's end.
        try {
          auto piece = next();
          if (!piece) {
            sink.done();
            return true;
          }
          return piece->empty() ? !connection->gone() : sink.write(piece->data(), piece->size());
        } catch (...) {
          return false;
        }
      };
      auto released = [closed = std::move(ours.closed)](bool whole) {
        if (closed) closed(whole);
      };
      if (exchange.head.http_1_0) {
        response.set_content_provider(ours.type, provider, released);
      } else {
        response.set_chunked_content_provider(ours.type, provider, released);
      }
    } else if (ours.shared_body) {
      const auto length = ours.shared_body->size();
      response.set_content_provider(
          length, ours.type,
          [body = std::move(ours.shared_body)](size_t offset, size_t count, httplib::DataSink& sink) {
            return sink.write(body->data() + offset, std::min<size_t>(count, 1 << 16));
          });
    } else {
      response.set_content(ours.body, ours.type);
    }
  }

  /// The response to the request of `exchange`, whose body is read if it is asked for.
  Response answered() {
    auto& head = exchange.head;
    Response response;
    Received received(receiving_, limits_.memory);
    try {
      if (exchange.problem) std::rethrow_exception(exchange.problem);
      const auto rule = service_.begin(head.request);
      if (rule.bytes > 0 || !rule.fields.empty()) {
        read_body(rule, received);
        exchange.keeps_open = head.keeps_open;
      } else {
        // A body that nobody asked for would be taken for the next request.
        exchange.keeps_open = head.keeps_open && !head.has_body();
      }
      response = service_.answer_or_fault(head.request);
      head.request.form = {};
      head.request.body.clear();
    } catch (...) {
      response = Service::refusal(fault_of(std::current_exception()));
    }
    return response;
  }

  void read_body(const BodyRule& rule, Received& received) {
    auto& connection = *exchange.connection;
    const auto& head = exchange.head;
    auto& request = exchange.head.request;
    if (!head.chunked && !head.length) throw Fault(411, "wrong_value", "expected Content-Length or Transfer-Encoding");
    std::optional<Multipart> fields;
    if (!rule.fields.empty()) {
      request.form = Form(rule.fields);
      fields.emplace(boundary_of(request.header("Content-Type")), request.form);
    }
    Body body([&connection](char* data, std::size_t size) { return connection.receive(data, size); },
              head.chunked ? std::nullopt : head.length, limits_.bytes);
    if (head.waits) connection.say_continue();
    for (auto piece = body.next(); !piece.empty(); piece = body.next()) {
      received.add(piece.size());
      if (fields) {
        fields->add(piece);
      } else {
        request.body += piece;
      }
    }
    if (fields) {
      fields->finish();
      request.form.finish();
    }
  }

  void log(const httplib::Response& response) {
    const Seconds taken = std::chrono::steady_clock::now() - exchange.begun;
    service_.record(exchange.head.request, response.status, std::max(response.body.size(), response.content_length_),
                    taken.count());
  }

  /// Reads the next head into `exchange`. \param last whether no other request is taken after it
  /// \return whether there is a request to answer
  static bool begin_exchange(Connection& connection, bool last) {
    exchange = {.connection = &connection, .begun = std::chrono::steady_clock::now()};
    try {
      const auto head = connection.read_head();
      if (!head) return false;
      exchange.head = parse_head(*head);
      if (last) exchange.head.keeps_open = false;
    } catch (...) {
      exchange.problem = std::current_exception();
    }
    auto& request = exchange.head.request;
    int port = 0;
    connection.get_remote_ip_and_port(request.address, port);
    request.gone = [&connection] { return connection.gone(); };
    // All that httplib has to know is whether a body is sent.
    connection.give(fmt::format("{} / HTTP/1.1\r\n\r\n", request.method == "HEAD" ? "HEAD" : "GET"));
    return true;
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
      if (!begin_exchange(connection, left == 1)) break;
      bool closes = false;
      if (!process_request(connection, false, closes, {}) || !exchange.keeps_open) break;
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
