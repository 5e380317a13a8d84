// What the server of a hub answers is refused with an Error that does not hold the token, or the model's snapshot is in
// the cache, and all its files are within the cache and have the contents that were sent for them. Nothing is left
// outside of the cache.
//
// The input is the answers of a server, headers and bodies, in the order of the requests, separated as fuzz/harness.hpp
// says; the last is repeated. A server on this machine sends them.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fuzz/harness.hpp"
#include "ip2p/io/hub_download.hpp"

namespace fuzz = ip2p::testing::fuzz;

namespace {

constexpr const char* token = "hf_token0123456789";

/// A server that answers each connection's first request with the next of its answers.
class Server {
 public:
  Server() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    fuzz::expect(::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     ::listen(listener_, 64) == 0 &&
                     ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0,
                 "no server on this machine");
    endpoint_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    std::thread([this] { serve(); }).detach();
  }

  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }

  void set_answers(std::vector<std::string> answers) {
    const std::scoped_lock lock(mutex_);
    answers_ = std::move(answers);
    next_ = 0;
  }

 private:
  [[noreturn]] void serve() {
    while (true) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      std::string request;
      char bytes[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const auto got = ::recv(connection, bytes, sizeof bytes, 0);
        if (got <= 0) break;
        request.append(bytes, static_cast<std::size_t>(got));
      }
      std::string answer;
      {
        const std::scoped_lock lock(mutex_);
        if (!answers_.empty()) answer = answers_[std::min(next_++, answers_.size() - 1)];
      }
      for (std::string_view rest = answer; !rest.empty();) {
        const auto sent = ::send(connection, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(sent));
      }
      ::shutdown(connection, SHUT_WR);
      while (::recv(connection, bytes, sizeof bytes, 0) > 0) {
      }
      ::close(connection);
    }
  }

  int listener_;
  std::string endpoint_;
  std::mutex mutex_;
  std::vector<std::string> answers_;
  std::size_t next_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Server server;
  static fuzz::ScratchFolder scratch;
  std::vector<std::string> answers;
  for (std::string_view rest = fuzz::text_of(data, size);;) {
    const auto end = rest.find(fuzz::separator);
    answers.emplace_back(rest.substr(0, end));
    // A redirect to another server would leave this machine.
    if (answers.back().find("://") != std::string::npos) return -1;
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + fuzz::separator.size());
  }
  server.set_answers(answers);
  scratch.clear();
  std::filesystem::create_directories(scratch.path() / "cache");
  try {
    const auto snapshot = ip2p::download_model("owner/name", {.cache = scratch.path() / "cache",
                                                              .endpoint = server.endpoint(),
                                                              .token = token,
                                                              .tries = 1,
                                                              .first_wait = 0,
                                                              .connect_seconds = 5,
                                                              .stall_seconds = 5});
    for (const auto& entry : std::filesystem::recursive_directory_iterator(snapshot)) {
      if (entry.is_directory()) continue;
      const auto place = std::filesystem::canonical(entry.path()).string();
      fuzz::expect(place.starts_with((scratch.path() / "cache").string() + "/"), "a file outside of the cache");
    }
  } catch (const ip2p::Error& error) {
    const std::string_view message = error.what();
    fuzz::expect(message.find(token) == std::string_view::npos, "the token is in a message");
    fuzz::expect_shown(message);
  }
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    fuzz::expect(entry.path().filename() == "cache", "something is left beside the cache");
  }
  return 0;
}
