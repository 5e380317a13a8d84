#include "ip2p/io/ascii.hpp"

#include "support/catch.hpp"

using ip2p::detail::lower_ascii;

TEST_CASE("Lower case is that of ASCII letters alone", "[io]") {
  CHECK(lower_ascii("Photo.JPEG @[`{") == "photo.jpeg @[`{");
  CHECK(lower_ascii("AZaz09") == "azaz09");
  CHECK(lower_ascii("CAF\xc3\x89") == "caf\xc3\x89");
  CHECK(lower_ascii("").empty());
  CHECK(lower_ascii('A') == 'a');
  CHECK(lower_ascii('\xc0') == '\xc0');
}
