#include "multipart.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "fault.hpp"
#include "http.hpp"
#include "ip2p/io/ascii.hpp"

namespace studio {
namespace {

constexpr std::size_t most_field_head = 8 << 10;  // bytes of a field's headers

Fault no_form(const std::string& message) { return {400, "wrong_value", message}; }

void skip_spaces(std::string_view& text) { text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size())); }

/// Takes a value, which may be quoted, off the text. Nothing for one whose end is missing.
std::optional<std::string> take_value(std::string_view& text) {
  std::string value;
  if (!text.starts_with('"')) {
    value = text.substr(0, text.find_first_of("; \t"));
    text.remove_prefix(value.size());
    return value;
  }
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return value;
    }
    // Names have no backslashes, and files' names keep those of quotes alone.
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '"') ++i;
    value += text[i];
  }
  return {};
}

/// The value of a parameter of a header such as `form-data; name="x"`; nothing without it.
/// \param kind what has to come first, in lower case  \throws Fault where it does not, or where the header cannot be
/// read
std::optional<std::string> parameter(std::string_view header, std::string_view kind, std::string_view wanted) {
  const auto fault = [&] { return no_form(fmt::format("expected {}; NAME=VALUE ...", kind)); };
  std::optional<std::string> found;
  skip_spaces(header);
  if (ip2p::detail::lower_ascii(header.substr(0, kind.size())) != kind) throw fault();
  header.remove_prefix(kind.size());
  while (true) {
    skip_spaces(header);
    if (header.empty()) return found;
    if (!header.starts_with(';')) throw fault();
    header.remove_prefix(1);
    skip_spaces(header);
    if (header.empty()) return found;
    const auto equals = header.find('=');
    if (equals == header.npos) throw fault();
    const auto name = ip2p::detail::lower_ascii(header.substr(0, equals));
    header.remove_prefix(equals + 1);
    auto value = take_value(header);
    if (!value) throw fault();
    if (name != wanted) continue;
    if (found) throw no_form(fmt::format("expected one {}, found several", wanted));
    found = std::move(value);
  }
}

/// The name of a field. \param head its headers, each of which ends in CR LF
std::string field_name(std::string_view head) {
  constexpr std::string_view wanted = "content-disposition:";
  std::optional<std::string> name;
  while (!head.empty()) {
    auto line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    if (ip2p::detail::lower_ascii(line.substr(0, wanted.size())) != wanted) continue;
    if (name) throw no_form("expected one Content-Disposition of a field, found several");
    name = parameter(line.substr(wanted.size()), "form-data", "name");
  }
  if (!name) throw no_form("expected 'Content-Disposition: form-data; name=\"NAME\"' of each field");
  return *name;
}

}  // namespace

std::string boundary_of(std::string_view content_type) {
  constexpr std::string_view wanted = "multipart/form-data", allowed = "'()+_,-./:=? ";
  if (ip2p::detail::lower_ascii(content_type.substr(0, wanted.size())) != wanted) {
    throw no_form("expected a body of the type multipart/form-data");
  }
  const auto boundary = parameter(content_type, wanted, "boundary").value_or("");
  const bool plain = std::all_of(boundary.begin(), boundary.end(), [&](unsigned char c) {
    return std::isalnum(c) != 0 || allowed.find(static_cast<char>(c)) != allowed.npos;
  });
  if (boundary.empty() || boundary.size() > 70 || !plain || boundary.back() == ' ') {
    throw no_form("Content-Type: expected a boundary of 1 to 70 letters, digits and characters of '()+_,-./:=?");
  }
  return boundary;
}

void Multipart::add(std::string_view piece) {
  if (part_ == Part::epilogue) return;
  bytes_.erase(0, std::exchange(at_, 0));
  bytes_ += piece;
  while (advance()) {
  }
}

void Multipart::finish() const {
  if (part_ != Part::epilogue) throw no_form("the form is cut off: its last border is missing");
}

/// Reads the part that comes next. \return whether it was there as a whole
bool Multipart::advance() {
  switch (part_) {
    case Part::preamble:
    case Part::content:
      return read_content();
    case Part::border:
      return read_border();
    case Part::headers:
      return read_headers();
    case Part::epilogue:
      break;
  }
  return false;
}

bool Multipart::read_content() {
  const auto text = rest();
  const auto found = text.find(border_);
  // Without a border, all but what may be the beginning of one is content.
  const auto size = found != text.npos ? found : text.size() - std::min(text.size(), border_.size() - 1);
  if (part_ == Part::content) form_.add(text.substr(0, size));
  at_ += size;
  if (found == text.npos) return false;
  at_ += border_.size();
  part_ = Part::border;
  return true;
}

/// After a border come "--" if it is the last one, spaces which mean nothing, and CR LF.
bool Multipart::read_border() {
  const auto whole = rest();
  if (whole.starts_with("--")) {
    part_ = Part::epilogue;
    return false;
  }
  auto text = whole;
  skip_spaces(text);
  const auto spaces = whole.size() - text.size();
  const bool may_go_on = whole == "-" || text.empty() || text == "\r" || text.starts_with("\r\n");
  if (!may_go_on || spaces > 100) throw no_form("expected a border of the form to end its line");
  if (!text.starts_with("\r\n")) return false;
  at_ += spaces + 2;
  part_ = Part::headers;
  return true;
}

bool Multipart::read_headers() {
  const auto text = rest();
  // A field without headers begins with the empty line.
  const auto end = text.starts_with("\r\n") ? std::size_t{0} : text.find("\r\n\r\n");
  // An end that is not there yet may have begun with the last three bytes.
  if (end == text.npos ? text.size() > most_field_head + 3 : end > most_field_head) {
    throw no_form(fmt::format("expected headers of at most {} bytes for each field", most_field_head));
  }
  if (end == text.npos) return false;
  form_.begin(field_name(text.substr(0, end)));
  at_ += end + (end == 0 ? 2 : 4);
  part_ = Part::content;
  return true;
}

}  // namespace studio
