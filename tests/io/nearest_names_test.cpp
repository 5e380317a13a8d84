#include "ip2p/io/nearest_names.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

TEST_CASE("edit_distance counts insertions, deletions, substitutions and swaps of neighbours", "[io]") {
  using ip2p::detail::edit_distance;
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("steps", "stepz") == 1);
  CHECK(edit_distance("promt", "prompt") == 1);
  CHECK(edit_distance("pormpt", "prompt") == 1);
  CHECK(edit_distance("pormtp", "prompt") == 2);
  CHECK(edit_distance("ca", "abc") == 3);  // 2 if what was swapped could be changed again
}

TEST_CASE("nearest_names puts the closest first", "[io]") {
  const std::vector<std::string> names{"text-scale", "steps", "image-scale", "seed"};
  CHECK(ip2p::detail::nearest_names("setps", names, 1) == std::vector<std::string>{"steps"});
  CHECK(ip2p::detail::nearest_names("iamge-scale", names, 2) == std::vector<std::string>{"image-scale", "text-scale"});
}
