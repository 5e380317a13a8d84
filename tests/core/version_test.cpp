#include "ip2p/version.hpp"

#include <fmt/format.h>

#include <string>

#include "support/catch.hpp"

TEST_CASE("The version text and the version macros name the same version", "[core]") {
  CHECK(std::string(ip2p::version) ==
        fmt::format("{}.{}.{}", IP2P_VERSION_MAJOR, IP2P_VERSION_MINOR, IP2P_VERSION_PATCH));
}
