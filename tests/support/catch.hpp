#pragma once

// One include for both Catch2 2.13 (Debian 12) and Catch2 3.

// LibTorch has a CHECK of its own: it must come first, so that it does not replace Catch2's later in a unit.
#include <c10/util/Logging.h>

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
inline auto Contains(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }
#else
#include <catch2/catch.hpp>
using Catch::Matchers::Contains;
#endif
