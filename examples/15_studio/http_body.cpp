#include "http_body.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "fault.hpp"

namespace studio {
namespace {

Fault too_long(std::size_t most_bytes) {
  return {413, "too_large", fmt::format("expected a body of at most {} bytes", most_bytes)};
}

Fault cut_off() { return {400, "wrong_value", "the body is cut off"}; }

}  // namespace

Body::Body(Source source, std::optional<std::size_t> length, std::size_t most_bytes)
    : source_(std::move(source)),
      chunked_(!length),
      left_(length.value_or(0)),
      most_bytes_(most_bytes),
      room_(most_bytes) {
  if (left_ > most_bytes) throw too_long(most_bytes);
}

std::string_view Body::next() {
  if (chunked_ && left_ == 0 && !ended_) begin_chunk();
  if (left_ == 0) return {};
  const auto got = source_(piece_.data(), std::min(piece_.size(), left_));
  if (got == 0) throw cut_off();
  left_ -= got;
  if (chunked_ && left_ == 0 && !line().empty()) {
    throw Fault(400, "wrong_value", "expected the end of a chunk where its length puts it");
  }
  return {piece_.data(), got};
}

/// A line without the CR LF that it ends in.
std::string Body::line() {
  constexpr std::size_t longest = 4096;
  std::string text;
  char byte = 0;
  while (text.size() < longest) {
    if (room_-- == 0) throw too_long(most_bytes_);
    if (source_(&byte, 1) == 0) throw cut_off();
    if (byte == '\n' && text.ends_with('\r')) {
      text.pop_back();
      return text;
    }
    if (byte == '\n' || text.ends_with('\r')) break;
    text += byte;
  }
  throw Fault(400, "wrong_value",
              fmt::format("expected lines of at most {} bytes between chunks, which end in CR LF", longest));
}

void Body::begin_chunk() {
  const auto text = line();
  const auto digits = std::string_view(text).substr(0, text.find_first_of("; \t"));
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), left_, 16);
  if (problem == std::errc::result_out_of_range || (problem == std::errc() && left_ > room_))
    throw too_long(most_bytes_);
  const auto extension = std::string_view(text).substr(digits.size());
  const auto semicolon = extension.find_first_not_of(" \t");
  if (problem != std::errc() || end != digits.data() + digits.size() ||
      (!extension.empty() && (semicolon == extension.npos || extension[semicolon] != ';'))) {
    throw Fault(400, "wrong_value", "expected the length of a chunk in hexadecimal digits");
  }
  room_ -= left_;
  if (left_ > 0) return;
  // Headers after the body are allowed, and of no use here.
  while (!line().empty()) {
  }
  ended_ = true;
}

}  // namespace studio
