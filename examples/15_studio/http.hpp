#pragma once

/// \file
/// Requests and responses, apart from how they are transported.

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "form.hpp"
#include "ip2p/io/ascii.hpp"

namespace studio {

/// Orders names of headers, in which case does not count.
struct NameLess {
  bool operator()(const std::string& a, const std::string& b) const {
    return ip2p::detail::lower_ascii(a) < ip2p::detail::lower_ascii(b);
  }
};

/// A request. Its body comes last, and only if its headers were not refused.
struct Request {
  std::string method = {}, path = {}, address = {};  ///< The address is the client's.
  std::multimap<std::string, std::string, NameLess> headers = {};
  Form form = {};
  std::string body = {};
  /// Whether the client has gone away.
  std::function<bool()> gone = [] { return false; };

  /// The header's value; empty without it.
  [[nodiscard]] std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

/// How a request's body is to be read.
struct BodyRule {
  std::vector<FieldRule> fields = {};  ///< Of a form.
  std::size_t bytes = 0;               ///< Of a body that is no form; 0: there is none.
};

/// A response: a body, or pieces of it as they come.
struct Response {
  int status = 200;
  std::string type = "application/json";
  std::string body = {};
  std::shared_ptr<const std::string> shared_body = {};  ///< Instead of `body`, without a copy.
  std::vector<std::pair<std::string, std::string>> headers = {};
  /// Instead of a body: gives the next piece within a second or so, which may be empty; nothing at the end.
  std::function<std::optional<std::string>()> next = {};
  /// Called once `next` is not called any more. \param whole whether all was sent
  std::function<void(bool whole)> closed = {};
};

}  // namespace studio
