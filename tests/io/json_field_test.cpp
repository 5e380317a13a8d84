#include "ip2p/io/json_field.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
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

  const json large{{"count", std::uint64_t{1} << 63}, {"sizes", {1, 1e300}}, {"negative", -1}};
  std::int64_t value = 0;
  CHECK_THROWS_WITH(read_field(large, "count", value, "w"),
                    "w: count: expected a whole number within its range, found 9223372036854775808");
  std::uint32_t small = 0;
  CHECK_THROWS_WITH(read_field(large, "negative", small, "w"),
                    "w: negative: expected a whole number within its range, found -1");
  std::vector<std::int64_t> sizes;
  CHECK_THROWS_WITH(read_field(large, "sizes", sizes, "w"),
                    "w: sizes: expected a list of whole numbers, found [1,1e+300]");

  need_field(file, "count", value, "a/b.json");
  CHECK(value == 3);
  CHECK_THROWS_WITH(need_field(file, "absent", value, "a/b.json"), "a/b.json: absent: expected a value, found none");
  CHECK_THROWS_WITH(need_field(file, "none", value, "a/b.json"), "a/b.json: none: expected a value, found none");
  CHECK_THROWS_WITH(read_field(json{{"k", std::string(100, 'x')}}, "k", value, "w"),
                    "w: k: expected a whole number, found \"" + std::string(59, 'x') + "...");
  CHECK_THROWS_WITH(ip2p::detail::require_config(json(3), "a UNet", "w"),
                    "w: expected the config.json of a UNet, found 3");
}

TEST_CASE("JSON that is nested too deep is refused before anything copies or writes it", "[io]") {
  using ip2p::detail::deepest_json;
  using ip2p::detail::json_or_discarded;
  using ip2p::detail::parse_json;
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(parse_json(nested(deepest_json)).dump() == nested(deepest_json));
  CHECK(json_or_discarded(nested(deepest_json)).is_array());
  CHECK(json_or_discarded(nested(deepest_json + 1)).is_discarded());
  CHECK(json_or_discarded("[").is_discarded());
  // Brackets in texts, and beside each other, are none in each other.
  const json flat{nested(10'000), "\\\"[["};
  CHECK(parse_json(flat.dump()) == flat);
  std::string beside = "[0";
  for (int i = 0; i < 1000; ++i) beside += ",[{}]";
  CHECK(parse_json(beside + "]").size() == 1001);
  const auto fault = [](std::string_view text) {
    try {
      parse_json(text);
    } catch (const json::exception& error) {
      return ip2p::detail::json_fault(error);
    }
    return std::string();
  };
  CHECK(fault(nested(1'000'000)) == "more than 500 levels of nesting at byte 501");
  CHECK(fault("{\"a\": \"b\xFF\"}") == "text that is not UTF-8 at byte 9");
  CHECK(fault("{\"a\": }") == "a syntax error at byte 7");
}
