#include "ip2p/io/json_field.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"

using ip2p::detail::need_field;
using ip2p::detail::read_field;
using nlohmann::json;

TEST_CASE("A field is read as the type that it is wanted in, or refused by name", "[io]") {
  const json file{{"count", 3},   {"ratio", 0.5},    {"name", "x"},       {"flag", true},
                  {"sizes", {1}}, {"none", nullptr}, {"mixed", {1, 2.5}}, {"empty", json::array()}};
  const auto as = [&](const char* key, auto start) {
    read_field(file, key, start, "a/b.json");
    return start;
  };
  CHECK(as("count", std::int64_t{1}) == 3);
  CHECK(as("count", 1.0) == 3.0);
  CHECK(as("ratio", 1.0) == 0.5);
  CHECK(as("name", std::string()) == "x");
  CHECK(as("flag", false));
  CHECK(as("sizes", std::vector<std::int64_t>{}) == std::vector<std::int64_t>{1});
  CHECK(as("mixed", std::vector<double>{}) == std::vector<double>{1.0, 2.5});
  CHECK(as("none", std::int64_t{1}) == 1);
  CHECK(as("absent", std::int64_t{1}) == 1);

  CHECK_THROWS_WITH(as("ratio", std::int64_t{1}), "a/b.json: ratio: expected a whole number, found 0.5");
  CHECK_THROWS_WITH(as("flag", std::int64_t{1}), "a/b.json: flag: expected a whole number, found true");
  CHECK_THROWS_WITH(as("name", 1.0), "a/b.json: name: expected a number, found \"x\"");
  CHECK_THROWS_WITH(as("count", false), "a/b.json: count: expected true or false, found 3");
  CHECK_THROWS_WITH(as("count", std::string()), "a/b.json: count: expected a string, found 3");
  CHECK_THROWS_WITH(as("mixed", std::vector<std::int64_t>{}),
                    "a/b.json: mixed: expected a list of whole numbers, found [1,2.5]");
  CHECK_THROWS_WITH(as("empty", std::vector<double>{}), "a/b.json: empty: expected a list of numbers, found []");
  CHECK_THROWS_WITH(as("count", std::vector<double>{}), "a/b.json: count: expected a list of numbers, found 3");

  std::int64_t value = 0;
  need_field(file, "count", value, "a/b.json");
  CHECK(value == 3);
  CHECK_THROWS_WITH(need_field(file, "absent", value, "a/b.json"), "a/b.json: absent: expected a value, found none");
  CHECK_THROWS_WITH(need_field(file, "none", value, "a/b.json"), "a/b.json: none: expected a value, found none");
  CHECK_THROWS_WITH(read_field(json{{"k", std::string(100, 'x')}}, "k", value, "w"),
                    "w: k: expected a whole number, found \"" + std::string(59, 'x') + "...");
  CHECK_THROWS_WITH(ip2p::detail::require_config(json(3), "a UNet", "w"),
                    "w: expected the config.json of a UNet, found 3");
}
