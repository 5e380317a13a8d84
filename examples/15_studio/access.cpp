#include "access.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "fault.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/sha.hpp"

namespace studio {
namespace {

/// "localhost" of "LOCALHOST:8100", "::1" of "[::1]:8100".
std::string host_of(std::string_view authority) {
  if (authority.starts_with('[')) return ip2p::detail::lower_ascii(authority.substr(1, authority.find(']') - 1));
  return ip2p::detail::lower_ascii(authority.substr(0, authority.find(':')));
}

std::string digest(std::string_view text) {
  ip2p::detail::Sha256 sum;
  sum.add(std::as_bytes(std::span(text)));
  return sum.finish();
}

}  // namespace

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  // Digests have one length, whatever the texts'.
  const auto x = digest(a), y = digest(b);
  unsigned different = 0;
  for (std::size_t i = 0; i < x.size(); ++i) different |= static_cast<unsigned>(x[i] ^ y[i]);
  return different == 0;
}

bool is_loopback(std::string_view host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

Access::Access(std::string token, std::vector<std::string> hosts) : token_(std::move(token)) {
  for (const auto& host : hosts) {
    any_ = any_ || host == "0.0.0.0" || host == "::";
    hosts_.push_back(ip2p::detail::lower_ascii(host));
  }
}

void Access::check_origin(const Request& request) const {
  if (request.headers.count("Host") != 1) throw Fault(400, "wrong_host", "expected one Host header");
  const auto authority = request.header("Host");
  const auto host = host_of(authority);
  if (!any_ && !is_loopback(host) && std::find(hosts_.begin(), hosts_.end(), host) == hosts_.end()) {
    throw Fault(403, "wrong_host",
                fmt::format("this service is not called '{}'; --name adds a name", ip2p::detail::printable(host)));
  }
  if (!request.headers.contains("Origin")) return;
  const auto origin = request.header("Origin");
  const auto scheme = origin.find("://");
  if (scheme == origin.npos ||
      ip2p::detail::lower_ascii(std::string_view(origin).substr(scheme + 3)) != ip2p::detail::lower_ascii(authority)) {
    throw Fault(403, "wrong_origin",
                fmt::format("pages of '{}' may not use this service", ip2p::detail::printable(origin)));
  }
}

void Access::check_token(const Request& request) const {
  if (token_.empty()) return;
  const auto given = request.header("Authorization");
  constexpr std::string_view scheme = "bearer ";
  if (ip2p::detail::lower_ascii(given.substr(0, scheme.size())) != scheme) {
    throw Fault(401, "wrong_token", "expected the header 'Authorization: Bearer TOKEN'");
  }
  if (!equal_in_constant_time(std::string_view(given).substr(scheme.size()), token_)) {
    throw Fault(401, "wrong_token", "the token is not the one with which the service was started");
  }
}

std::string Access::client(const Request& request) {
  const auto name = request.header("X-Client");
  const bool plain = std::all_of(name.begin(), name.end(),
                                 [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; });
  if (name.size() > 64 || !plain) {
    throw Fault(400, "wrong_value", "X-Client: expected at most 64 letters, digits, '-' and '_'", "X-Client");
  }
  return name.empty() ? request.address : request.address + " " + name;
}

}  // namespace studio
