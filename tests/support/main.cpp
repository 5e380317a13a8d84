// Catch2 2.13 brings no library: its runner is compiled here, once for all test programs. Catch2 3 links its own.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
