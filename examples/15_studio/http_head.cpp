#include "http_head.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "fault.hpp"
#include "ip2p/io/ascii.hpp"
#include "ip2p/io/printable.hpp"

namespace studio {
namespace {

Fault bad_head(const std::string& message) { return {400, "wrong_value", message}; }

std::string shown(std::string_view text) { return ip2p::detail::printable(text.substr(0, 100)); }

/// Of methods and of names of headers.
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

/// The text up to the next `end`, which is taken off too; nothing without one.
std::optional<std::string_view> take(std::string_view& text, std::string_view end) {
  const auto place = text.find(end);
  if (place == text.npos) return {};
  const auto part = text.substr(0, place);
  text.remove_prefix(place + end.size());
  return part;
}

/// The path of a target, without its query.
std::string path_of(std::string_view target) {
  target = target.substr(0, target.find_first_of("?#"));
  std::string path;
  for (std::size_t i = 0; i < target.size(); ++i) {
    unsigned char byte = static_cast<unsigned char>(target[i]);
    if (byte == '%') {
      const auto digits = target.substr(i + 1, 2);
      const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
      if (problem != std::errc() || digits.size() != 2 || end != digits.data() + 2) {
        throw bad_head(fmt::format("expected two hexadecimal digits after each % of '{}'", shown(target)));
      }
      i += 2;
    }
    path += static_cast<char>(byte);
  }
  return path;
}

void read_first_line(std::string_view line, Head& head) {
  const auto method = take(line, " ");
  const auto target = take(line, " ");
  if (!method || !target || !is_token(*method)) {
    throw bad_head("expected a first line such as 'GET / HTTP/1.1'");
  }
  if (target->size() > most_target_bytes) {
    throw Fault(414, "too_large", fmt::format("expected a target of at most {} bytes", most_target_bytes));
  }
  if (target->empty() || !std::all_of(target->begin(), target->end(), [](char c) { return c > ' ' && c < '\x7f'; })) {
    throw bad_head(fmt::format("expected a target of visible ASCII, found '{}'", shown(*target)));
  }
  if (line != "HTTP/1.1" && line != "HTTP/1.0") {
    throw bad_head(fmt::format("expected HTTP/1.0 or HTTP/1.1, found '{}'", shown(line)));
  }
  head.request.method = *method;
  head.request.path = path_of(*target);
  head.http_1_0 = line == "HTTP/1.0";
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

void read_header(std::string_view line, Head& head) {
  const auto name = take(line, ":");
  if (!name || !is_token(*name)) {
    throw bad_head(fmt::format("expected a header 'Name: value', found '{}'", shown(name.value_or(line))));
  }
  const auto value = trimmed(line);
  const bool plain =
      std::all_of(value.begin(), value.end(), [](unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7f); });
  if (!plain) throw bad_head(fmt::format("{}: expected a value without control characters", shown(*name)));
  head.request.headers.emplace(*name, value);
}

/// The only value of a header; nothing without one.
std::optional<std::string> only(const Head& head, const char* name) {
  const auto count = head.request.headers.count(name);
  if (count > 1) throw bad_head(fmt::format("{}: expected one, found {}", name, count));
  return count == 0 ? std::nullopt : std::optional(head.request.header(name));
}

/// Whether a list, such as that of the header Connection, has an element. \param element in lower case
bool lists(std::string_view list, std::string_view element) {
  while (true) {
    const auto part = take(list, ",");
    if (ip2p::detail::lower_ascii(trimmed(part.value_or(list))) == element) return true;
    if (!part) return false;
  }
}

void read_framing(Head& head) {
  if (const auto encoding = only(head, "Transfer-Encoding")) {
    if (ip2p::detail::lower_ascii(*encoding) != "chunked" || head.http_1_0) {
      throw bad_head(fmt::format("Transfer-Encoding: expected chunked, and HTTP/1.1, found '{}'", shown(*encoding)));
    }
    head.chunked = true;
  }
  if (const auto length = only(head, "Content-Length")) {
    std::size_t value = 0;
    if (length->empty() || length->find_first_not_of("0123456789") != length->npos) {
      throw bad_head(fmt::format("Content-Length: expected a number, found '{}'", shown(*length)));
    }
    if (head.chunked) throw bad_head("expected Content-Length or Transfer-Encoding, found both");
    const auto problem = std::from_chars(length->data(), length->data() + length->size(), value).ec;
    head.length = problem == std::errc() ? value : std::numeric_limits<std::size_t>::max();
  }
  const auto coding = only(head, "Content-Encoding");
  if (coding && ip2p::detail::lower_ascii(*coding) != "identity") {
    throw Fault(415, "wrong_value", fmt::format("Content-Encoding: expected none, found '{}'", shown(*coding)));
  }
}

}  // namespace

Head parse_head(std::string_view text) {
  Head head;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')) throw bad_head("expected lines that end in CR LF");
  }
  const auto first = take(text, "\r\n");
  read_first_line(first.value_or(text), head);
  for (auto line = take(text, "\r\n"); line && !line->empty(); line = take(text, "\r\n")) read_header(*line, head);
  read_framing(head);
  const auto connection = head.request.header("Connection");
  head.keeps_open = !head.http_1_0 && !lists(connection, "close");
  head.waits = !head.http_1_0 && ip2p::detail::lower_ascii(head.request.header("Expect")) == "100-continue";
  return head;
}

}  // namespace studio
