#include "page.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base64.hpp"
#include "ip2p/io/sha.hpp"

namespace studio {

/// 'sha256-...' of each element of the page that begins with `open`, whatever its attributes, as CSP names them.
static std::string sums_of(std::string_view page, std::string_view open, std::string_view close) {
  std::string sums;
  for (auto begin = page.find(open); begin != page.npos; begin = page.find(open, begin)) {
    begin = page.find('>', begin) + 1;
    const auto content = page.substr(begin, page.find(close, begin) - begin);
    ip2p::detail::Sha256 sum;
    sum.add(std::as_bytes(std::span(content)));
    const auto digits = sum.finish();
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i < digits.size(); i += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
    }
    sums += fmt::format(" 'sha256-{}'", base64(bytes));
  }
  return sums;
}

std::string policy_of(std::string_view page) {
  return fmt::format(
      "default-src 'none'; style-src{}; script-src{}; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'",
      sums_of(page, "<style>", "</style>"), sums_of(page, "<script type=\"module\">", "</script>"));
}

}  // namespace studio
