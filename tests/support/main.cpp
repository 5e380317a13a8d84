// Catch2 2.13 comes without a library: its runner is compiled here, once for all test programs. Catch2 3 has its own.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
