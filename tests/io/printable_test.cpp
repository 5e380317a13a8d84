#include "ip2p/io/printable.hpp"

#include <string>
#include <string_view>

#include "support/catch.hpp"

using ip2p::detail::printable;

TEST_CASE("Names from files are shown without what acts on a terminal or is not UTF-8", "[io]") {
  CHECK(printable("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x8E\xA8") == "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x8E\xA8");
  CHECK(printable(std::string_view("a\0b\n\x1b[31m\x7f", 10)) == "a\\x00b\\x0a\\x1b[31m\\x7f");
  CHECK(printable("\xC2\x9B"
                  "31m\xC2\xA0") == "\\xc2\\x9b31m\xC2\xA0");  // U+009B begins a command, too
  CHECK(printable("\xE0\x9C\x93 \xFF\xC3") == "\\xe0\\x9c\\x93 \\xff\\xc3");
  CHECK(printable("").empty());
  CHECK(printable(std::string(200, 'x')) == std::string(200, 'x'));
  CHECK(printable(std::string(201, 'x')) == std::string(200, 'x') + "...");
  // A character is whole or left out.
  CHECK(printable(std::string(199, 'x') + "\xC3\xA9") == std::string(199, 'x') + "...");
  CHECK(printable(std::string(198, 'x') + "\xF0\x9F\x8E\xA8") == std::string(198, 'x') + "...");
  CHECK(printable(std::string(1'000'000, '\xFF')).size() == 803);
}
